import assert from "node:assert/strict";
import { test } from "node:test";

import { ConnectionError, PayloadTooLargeError, RequestError } from "../../../wsrt/clients/runtime/typescript/errors.js";
import { hooks, type ReactLike } from "../../../wsrt/clients/runtime/typescript/react.js";
import type { Subscription } from "../../../wsrt/clients/runtime/typescript/types.js";
import { FakeSocket, settle, World } from "./support.js";

const FORBIDDEN = { code: "forbidden", message: "You may not subscribe to this room", errors: [] };

/** Return what was asked for on a socket, and not yet answered: the request and the room. */
function asked(socket: FakeSocket): [string, string][] {
  return asks(socket).map((frame) => [frame.event, frame.data.room]);
}

function asks(socket: FakeSocket): any[] {
  return socket.sent.filter((frame) => /^wsrt\.(un)?subscribe$/.test(frame.event) && !frame.isAnswered);
}

/** Answer the oldest request. */
async function answer(socket: FakeSocket, event = "wsrt.ok", data: object = {}): Promise<void> {
  const frame = asks(socket)[0];
  assert.ok(frame, "nothing is asked for");
  frame.isAnswered = true;
  if (event === "wsrt.ok" && frame.event === "wsrt.subscribe") socket.receive("wsrt.joined", { room: frame.data.room });
  socket.receive(event, data, { ref: frame.ref });
  await settle();
}

test("three components share a room, and one of them leaves", async () => {
  const world = new World();
  const socket = world.open();
  const parts = [world.client.subscribe("order.1"), world.client.subscribe("order.1")];
  assert.deepEqual(asked(socket), [["wsrt.subscribe", "order.1"]]);
  await answer(socket);
  parts.push(world.client.subscribe("order.1"));
  assert.deepEqual(asked(socket), []);
  assert.deepEqual(
    parts.map((part) => part.state),
    ["subscribed", "subscribed", "subscribed"],
  );
  const seen: unknown[] = [];
  world.client.on("price", (data) => seen.push(data));
  parts[0]!.unsubscribe();
  parts[0]!.unsubscribe();
  assert.deepEqual(asked(socket), []);
  socket.receive("price", 1, { room: "order.1" });
  assert.deepEqual(seen, [1]);
  assert.deepEqual(
    parts.map((part) => part.state),
    ["ended", "subscribed", "subscribed"],
  );
  parts[1]!.unsubscribe();
  assert.deepEqual(asked(socket), []);
  parts[2]!.unsubscribe();
  assert.deepEqual(asked(socket), [["wsrt.unsubscribe", "order.1"]]);
  await answer(socket);
  assert.deepEqual(asked(socket), []);
});

test("rooms that are in use are asked for again after a reconnect, and no others", async () => {
  const world = new World();
  const early = world.client.subscribe("order.1");
  assert.equal(early.state, "waiting");
  const first = world.open();
  await answer(first);
  const other = world.client.subscribe("order.2");
  await answer(first);
  const states: string[] = [];
  world.client.subscribe("order.1", (subscription) => states.push(subscription.state));
  other.unsubscribe();
  first.end(1006);
  assert.equal(early.state, "waiting");
  await world.retried();
  const second = world.welcome();
  assert.deepEqual(asked(second), [["wsrt.subscribe", "order.1"]]);
  await answer(second);
  assert.equal(early.state, "subscribed");
  assert.deepEqual(states, ["waiting", "subscribed"]);
});

test("a component that leaves and comes back at once leaves its room as it is, or asks again", async () => {
  const world = new World();
  const socket = world.open();
  world.client.subscribe("order.1").unsubscribe();
  const again = world.client.subscribe("order.1");
  assert.deepEqual(asked(socket), [["wsrt.subscribe", "order.1"]]);
  await answer(socket);
  assert.deepEqual(asked(socket), []);
  again.unsubscribe();
  const third = world.client.subscribe("order.1");
  // Whether the room was left is only known when the answer comes.
  assert.equal(third.state, "waiting");
  socket.receive("wsrt.left", { room: "order.1" });
  await answer(socket);
  assert.deepEqual(asked(socket), [["wsrt.subscribe", "order.1"]]);
  await answer(socket);
  assert.equal(third.state, "subscribed");
});

test("a use that ends before the answer ends the subscription after it", async () => {
  const world = new World();
  const socket = world.open();
  world.client.subscribe("order.1").unsubscribe();
  await answer(socket);
  assert.deepEqual(asked(socket), [["wsrt.unsubscribe", "order.1"]]);
  await answer(socket);
  assert.deepEqual(asked(socket), []);
});

test("a refusal reaches whoever waits or listens, otherwise onError", async () => {
  const world = new World();
  const socket = world.open();
  const waiting = world.client.subscribe("order.1");
  const rejected = assert.rejects(waiting.ready, (error: RequestError) => error.code === "forbidden");
  await answer(socket, "wsrt.error", FORBIDDEN);
  await rejected;
  const told: (string | undefined)[] = [];
  world.client.subscribe("order.2", ({ error }) => told.push(error?.message));
  await answer(socket, "wsrt.error", FORBIDDEN);
  assert.deepEqual(told, [FORBIDDEN.message]);
  assert.deepEqual(world.errors, []);
  world.client.subscribe("order.3");
  await answer(socket, "wsrt.error", FORBIDDEN);
  assert.equal(world.errors[0]?.[1], "subscribing to order.3");
  // A refused room is not asked for over and over, but again for a new use, and on the next connection.
  assert.deepEqual(asked(socket), []);
  world.client.subscribe("order.1");
  assert.deepEqual(asked(socket), [["wsrt.subscribe", "order.1"]]);
  assert.equal(waiting.state, "waiting");
  socket.end(1006);
  await world.retried();
  assert.deepEqual(
    asked(world.welcome()).map(([, room]) => room),
    ["order.1", "order.2", "order.3"],
  );
});

test("a client that was removed says so, and doesn't come back by itself", async () => {
  const world = new World();
  const socket = world.open();
  const states: string[] = [];
  const use = world.client.subscribe("order.1", ({ state }) => states.push(state));
  await answer(socket);
  socket.receive("wsrt.left", { room: "order.1" });
  assert.deepEqual(states, ["subscribed", "removed"]);
  assert.deepEqual(asked(socket), []);
  await assert.rejects(use.ready, ConnectionError);
  use.unsubscribe();
  assert.deepEqual(asked(socket), []);
});

test("a removal between the join and the answer counts", async () => {
  const world = new World();
  const socket = world.open();
  const use = world.client.subscribe("order.1");
  const { ref } = asks(socket)[0];
  socket.receive("wsrt.joined", { room: "order.1" });
  socket.receive("wsrt.left", { room: "order.1" });
  socket.receive("wsrt.ok", {}, { ref });
  await settle();
  assert.equal(use.state, "removed");
  // A room that the server left before it handled the request.
  const other = world.client.subscribe("order.2");
  const frame = socket.named("wsrt.subscribe").at(-1);
  socket.receive("wsrt.left", { room: "order.2" });
  socket.receive("wsrt.joined", { room: "order.2" });
  socket.receive("wsrt.ok", {}, { ref: frame.ref });
  await settle();
  assert.equal(other.state, "subscribed");
});

test("rooms that the server joins aren't left with a subscription", async () => {
  const world = new World();
  const socket = world.open();
  socket.receive("wsrt.joined", { room: "order.1" });
  const use = world.client.subscribe("order.1");
  await answer(socket);
  use.unsubscribe();
  await answer(socket); // no wsrt.left: the server holds it
  assert.equal(world.client.rooms.get("order.1")?.joined, true);
});

test("a server that is too busy is asked again, for one room after the other", async () => {
  const world = new World();
  const socket = world.open();
  const uses = Array.from({ length: 6 }, (_, number) => world.client.subscribe(`order.${number}`));
  assert.equal(asked(socket).length, 4);
  await answer(socket);
  assert.equal(asked(socket).length, 4);
  for (const code of ["rate_limited", "unavailable", "rate_limited", "rate_limited"]) {
    await answer(socket, "wsrt.error", { code, message: "", errors: [] });
  }
  assert.deepEqual(asked(socket), []);
  await world.clock.advance(700);
  for (let round = 0; round < 5; round += 1) {
    assert.equal(asked(socket).length, 1);
    await answer(socket);
  }
  assert.ok(uses.every((use) => use.state === "subscribed"));
  assert.deepEqual(world.errors, []);
});

test("a request without an answer is repeated", async () => {
  const world = new World({ timings: { deadAfterMs: 10_000_000 } });
  const socket = world.open();
  const use = world.client.subscribe("order.1");
  await world.clock.advance(15_000);
  assert.equal(asked(socket).length, 2);
  await answer(socket);
  await answer(socket);
  assert.equal(use.state, "subscribed");
});

test("close rejects what waits, and connect asks again", async () => {
  const world = new World();
  world.open();
  const use = world.client.subscribe("order.1");
  const rejected = assert.rejects(use.ready, ConnectionError);
  world.client.close();
  await rejected;
  assert.equal(world.clock.timers, 0);
  void world.client.connect();
  await world.clock.advance(2_000);
  assert.deepEqual(asked(world.welcome()), [["wsrt.subscribe", "order.1"]]);
  const ended = assert.rejects(use.ready, ConnectionError);
  use.unsubscribe();
  await ended;
  assert.equal(use.state, "ended");
});

test("a room that can't be sent is refused", async () => {
  const world = new World();
  world.open({ max_payload: 100 });
  await assert.rejects(world.client.subscribe("x".repeat(200)).ready, PayloadTooLargeError);
});

test("names that objects have are rooms like any other", async () => {
  const world = new World();
  const socket = world.open();
  const use = world.client.subscribe("__proto__");
  await answer(socket);
  assert.equal(use.state, "subscribed");
});

test("the React hook subscribes while it is mounted", async () => {
  const world = new World();
  const socket = world.open();
  let stop: () => void = () => {};
  let read: () => unknown = () => null;
  const react: ReactLike = {
    useEffect: () => {},
    useMemo: (make) => make(),
    useRef: (initial) => ({ current: initial }),
    useSyncExternalStore: (subscribe, readValue) => {
      read = readValue;
      stop = subscribe(() => {});
      return readValue();
    },
  };
  assert.equal(hooks(react).useSubscription(world.client, "order.1"), "waiting");
  await answer(socket);
  assert.equal(read(), "subscribed");
  stop();
  assert.deepEqual(asked(socket), [["wsrt.unsubscribe", "order.1"]]);
});

test("a listener that fails doesn't stop the others", async () => {
  const world = new World();
  const socket = world.open();
  const seen: Subscription[] = [];
  world.client.subscribe("order.1", () => assert.fail("oh"));
  world.client.subscribe("order.1", (subscription) => seen.push(subscription));
  await answer(socket);
  assert.equal(seen[0]?.state, "subscribed");
  assert.equal(world.errors.length, 1);
});
