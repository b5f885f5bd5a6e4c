import assert from "node:assert/strict";
import { test } from "node:test";

import type * as React from "react";

import { hooks, type ReactLike } from "../../../wsrt/clients/runtime/typescript/react.js";
import { eventStore, presenceStore, roomsStore, statusStore } from "../../../wsrt/clients/runtime/typescript/store.js";
import { World } from "./support.js";

test("a store tells at once, then every change, until it is left", () => {
  const world = new World();
  const states: string[] = [];
  const stop = statusStore(world.client).subscribe(({ state }) => states.push(state));
  world.open();
  stop();
  world.client.close();
  assert.deepEqual(states, ["closed", "connecting", "open"]);
});

test("stores of rooms and presence", () => {
  const world = new World();
  const seen: unknown[] = [];
  roomsStore(world.client).subscribe((rooms) => seen.push([...rooms.keys()]));
  presenceStore(world.client, "lobby").subscribe((presence) => seen.push(presence?.count ?? null));
  const socket = world.open();
  socket.receive("wsrt.joined", { room: "lobby" });
  socket.receive("wsrt.presence", { room: "other", version: 1, members: [] });
  socket.receive("wsrt.presence", { room: "lobby", version: 1, members: [] });
  assert.deepEqual(seen, [[], null, ["lobby"], 0]);
});

test("stores follow the loss of a connection", () => {
  const world = new World();
  const seen: unknown[] = [];
  const socket = world.open();
  socket.receive("wsrt.joined", { room: "lobby" });
  socket.receive("wsrt.presence", { room: "lobby", version: 1, members: [] });
  roomsStore(world.client).subscribe((rooms) => seen.push(rooms.get("lobby")?.joined));
  presenceStore(world.client, "lobby").subscribe((presence) => seen.push(presence));
  seen.length = 0;
  socket.end(1006);
  assert.deepEqual(seen, [false, null]);
});

test("a store of rooms shows a recovery and its end", async () => {
  const world = new World();
  const seen: unknown[] = [];
  world.client.setPosition("lobby", { epoch: "e1", offset: 5 });
  const stop = roomsStore(world.client).subscribe((rooms) => {
    const { joined, recovering, count } = rooms.get("lobby")!;
    seen.push([joined, recovering, count]);
  });
  const socket = world.open();
  socket.receive("wsrt.joined", { room: "lobby", epoch: "e1", offset: 6, recovered: true, count: 1 });
  socket.receive("said", 6, { room: "lobby", epoch: "e1", offset: 6 });
  stop();
  socket.end(1006);
  assert.deepEqual(seen, [
    [false, false, 0],
    [true, true, 1],
    [true, false, 1],
  ]);
});

test("a store of events collects while somebody looks", () => {
  const world = new World();
  const store = eventStore(world.client, "said", [] as string[], (list, text: string) => [...list, text]);
  const socket = world.open();
  const [one, two]: [string[][], string[][]] = [[], []];
  const stops = [store.subscribe((value) => one.push(value)), store.subscribe((value) => two.push(value))];
  socket.receive("said", "a");
  for (const stop of stops) stop();
  socket.receive("said", "b");
  assert.deepEqual(one, [[], ["a"]]);
  assert.deepEqual(two, one);
});

test("a subscriber that throws keeps no other from the value", () => {
  const world = new World();
  const store = eventStore(world.client, "said", 0, (count) => count + 1);
  const seen: number[] = [];
  const socket = world.open();
  store.subscribe((count) => {
    if (count > 0) throw new Error("broken");
  });
  store.subscribe((count) => seen.push(count));
  socket.receive("said", "a");
  assert.deepEqual(seen, [0, 1]);
  assert.deepEqual(world.errors.map(([text]) => text), ["Error: broken"]);
});

test("a subscriber that another one ends is not told", () => {
  const world = new World();
  const store = eventStore(world.client, "said", 0, (count) => count + 1);
  const seen: number[] = [];
  const socket = world.open();
  store.subscribe((count) => count > 0 && stop());
  const stop = store.subscribe((count) => seen.push(count));
  socket.receive("said", "a");
  assert.deepEqual(seen, [0]);
});

/** As much of React as hooks of one component need. */
class FakeReact implements ReactLike {
  #cells: any[] = [];
  #next = 0;
  #effects: (() => void)[] = [];

  render<Value>(component: () => Value): Value {
    this.#next = 0;
    const value = component();
    for (const run of this.#effects.splice(0)) run();
    return value;
  }

  unmount(): void {
    for (const cell of this.#cells) cell.stop?.();
  }

  useMemo = <Value>(make: () => Value, dependencies: readonly unknown[]): Value => {
    const cell = this.#cell();
    if (isChanged(cell, dependencies)) cell.value = make();
    return cell.value;
  };

  useRef = <Value>(initial: Value): { current: Value } => (this.#cell().ref ??= { current: initial });

  useEffect = (effect: () => void | (() => void), dependencies?: readonly unknown[]): void => {
    const cell = this.#cell();
    if (!isChanged(cell, dependencies)) return;
    this.#effects.push(() => {
      cell.stop?.();
      cell.stop = effect();
    });
  };

  useSyncExternalStore = <Value>(subscribe: (tell: () => void) => () => void, read: () => Value): Value => {
    this.useEffect(() => subscribe(() => {}), [subscribe]);
    return read();
  };

  #cell(): any {
    return (this.#cells[this.#next++] ??= {});
  }
}

function isChanged(cell: any, dependencies: readonly unknown[] | undefined): boolean {
  const before = cell.dependencies;
  cell.dependencies = dependencies;
  return !before || !dependencies || dependencies.some((value, index) => value !== before[index]);
}

// Compiles: the real React is what hooks() takes.
export const accepts = (react: typeof React) => hooks(react);

test("hooks connect a client while a component is mounted", () => {
  const react = new FakeReact();
  const { useClient, useStatus, useEvent, usePresence } = hooks(react);
  const world = new World();
  const heard: string[] = [];
  const component = (prefix: string) => () => {
    const client = useClient(() => world.client, []);
    useEvent(client, "said", (text) => heard.push(prefix + text));
    return [useStatus(client).state, usePresence(client, "lobby")?.count ?? null];
  };
  assert.deepEqual(react.render(component("a")), ["closed", null]);
  const socket = world.welcome();
  socket.receive("said", "1");
  socket.receive("wsrt.presence", { room: "lobby", version: 1, members: [] });
  assert.deepEqual(react.render(component("b")), ["open", 0]);
  socket.receive("said", "2");
  assert.deepEqual(heard, ["a1", "b2"]);
  react.unmount();
  assert.equal(world.client.state, "closed");
});

test("hooks show a room and its recovery", () => {
  const react = new FakeReact();
  const { useRoom, useRecovered } = hooks(react);
  const world = new World();
  const told: unknown[] = [];
  const component = (prefix: string) => () => {
    useRecovered(world.client, "lobby", ({ recovered, reason }) => told.push([prefix, recovered, reason]));
    return useRoom(world.client, "lobby")?.reason ?? null;
  };
  assert.equal(react.render(component("a")), null);
  world.client.setPosition("lobby", { epoch: "e1", offset: 5 });
  const socket = world.open();
  assert.equal(react.render(component("b")), null);
  const missed = { epoch: "e1", offset: 9, recovered: false, reason: "trimmed" };
  socket.receive("wsrt.joined", { room: "tea", ...missed });
  socket.receive("wsrt.joined", { room: "lobby", ...missed });
  assert.equal(react.render(component("c")), "trimmed");
  assert.deepEqual(told, [["b", false, "trimmed"]]);
  react.unmount();
  socket.receive("wsrt.joined", { room: "lobby", ...missed });
  assert.equal(told.length, 1);
});
