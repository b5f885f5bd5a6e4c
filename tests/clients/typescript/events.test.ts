import assert from "node:assert/strict";
import { test } from "node:test";

import { settle, World } from "./support.js";

test("an event reaches its listeners with its room", () => {
  const world = new World();
  const heard: unknown[] = [];
  world.client.on("said", (data, { room }) => heard.push([data, room]));
  const socket = world.open();
  socket.receive("said", { text: "hi" }, { room: "lobby" });
  socket.receive("said", { text: "ho" });
  assert.deepEqual(heard, [
    [{ text: "hi" }, "lobby"],
    [{ text: "ho" }, null],
  ]);
});

test("what on returns ends it, once, also for a function that listens twice", () => {
  const world = new World();
  let calls = 0;
  const listener = () => (calls += 1);
  const stop = world.client.on("said", listener);
  world.client.on("said", listener);
  stop();
  stop();
  world.open().receive("said");
  assert.equal(calls, 1);
});

test("a listener that was removed by another is not called", () => {
  const world = new World();
  const heard: string[] = [];
  world.client.on("said", () => stop());
  const stop = world.client.on("said", () => heard.push("second"));
  world.open().receive("said");
  assert.deepEqual(heard, []);
});

test("a listener that closes is the last that hears of the frame", () => {
  const world = new World();
  const heard: string[] = [];
  world.client.on("said", () => world.client.close());
  world.client.on("said", () => heard.push("said"));
  world.client.onAny(() => heard.push("any"));
  world.client.onRoom(() => heard.push("room"));
  world.client.onPresence(() => heard.push("presence"));
  const socket = world.open();
  socket.receive("said");
  assert.equal(world.client.state, "closed");
  assert.deepEqual(heard, []);
});

test("a listener that closes and connects again hears of the next connection alone", async () => {
  const world = new World();
  const heard: unknown[] = [];
  world.client.on("said", (data) => {
    if (data !== 1) return;
    world.client.close();
    void world.client.connect();
  });
  world.client.on("said", (data) => heard.push(data));
  const socket = world.open();
  socket.receive("said", 1);
  socket.end(1000);
  world.welcome().receive("said", 2);
  assert.deepEqual(heard, [2]);
});

test("a listener of rooms that closes is the last that hears of the room", () => {
  for (const event of ["wsrt.joined", "wsrt.left"]) {
    const world = new World();
    const heard: string[] = [];
    const socket = world.open();
    socket.receive("wsrt.joined", { room: "a" });
    world.client.onRoom((_, membership) => {
      // Of the loss of the connection they all hear.
      if (membership?.joined !== false) world.client.close();
    });
    world.client.onRoom((_, membership) => heard.push(String(membership?.joined)));
    world.client.onPresence(() => heard.push("presence"));
    socket.receive(event, { room: "a" });
    assert.deepEqual(heard, event === "wsrt.left" ? [] : ["false"]);
  }
});

test("listeners of the state hear of it in its order, also where one of them closes", () => {
  const world = new World();
  const heard: string[] = [];
  world.client.onState(({ state }) => state === "open" && world.client.close());
  world.client.onState(({ state }) => heard.push(state));
  world.open();
  assert.deepEqual(heard, ["connecting", "closed"]);
});

test("an error of one listener is reported, and keeps nothing from the others", async () => {
  const world = new World();
  const heard: string[] = [];
  world.client.on("said", () => {
    throw new Error("first");
  });
  world.client.on("said", async () => {
    throw new Error("second");
  });
  world.client.on("said", () => heard.push("third"));
  const socket = world.open();
  socket.receive("said");
  await settle();
  assert.deepEqual(heard, ["third"]);
  assert.deepEqual(world.errors, [
    ["Error: first", "a listener of said"],
    ["Error: second", "a listener of said"],
  ]);
  assert.equal(world.client.state, "open");
});

test("what a promise of another realm rejects with is reported", async () => {
  const world = new World();
  world.client.on("said", () => ({ then: (_: unknown, onError: (error: Error) => void) => onError(new Error("there")) }));
  world.open().receive("said");
  await settle();
  assert.deepEqual(world.errors, [["Error: there", "a listener of said"]]);
});

test("errors of listeners of the state, and of onError itself, harm nothing", (context) => {
  const logged = context.mock.method(console, "error", () => {});
  const world = new World({
    onError: () => {
      throw new Error("onError");
    },
  });
  world.client.onState(() => {
    throw new Error("state");
  });
  world.open();
  assert.equal(world.client.state, "open");
  assert.ok(logged.mock.callCount() > 0);
});

test("without onError the console is told", (context) => {
  const logged = context.mock.method(console, "error", () => {});
  const world = new World({ onError: undefined as never });
  world.client.on("said", () => {
    throw new Error("oops");
  });
  world.open().receive("said");
  assert.equal(logged.mock.calls[0]!.arguments[0], "wsrt: a listener of said:");
});

test("unknown events are ignored, and seen by onAny", () => {
  const world = new World();
  const seen: string[] = [];
  world.client.onAny((event) => seen.push(event));
  const socket = world.open();
  socket.receive("from.the.future", { a: 1 });
  socket.receive("wsrt.from_the_future", { room: "x" });
  assert.deepEqual(seen, ["from.the.future"]);
  assert.deepEqual(world.errors, []);
});

test("names of objects' own properties are names as any other", () => {
  const world = new World();
  const heard: string[] = [];
  const socket = world.open();
  for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
    socket.receive(name, {});
    world.client.on(name, () => heard.push(name));
    socket.receive(name, {});
  }
  assert.deepEqual(heard, ["__proto__", "constructor", "toString", "hasOwnProperty"]);
});

test("data with __proto__ changes no prototype", () => {
  const world = new World();
  const socket = world.open();
  world.client.on("said", (data) => ({ ...data }));
  socket.onmessage?.({ data: '{"event":"said","data":{"__proto__":{"isAdmin":true}},"__proto__":{"ref":"1"}}' });
  assert.equal(({} as { isAdmin?: boolean }).isAdmin, undefined);
});

test("an error without a ref is reported", () => {
  const world = new World();
  world.open().receive("wsrt.error", { code: "unknown_event", message: "Unknown event", errors: [] });
  assert.deepEqual(world.errors, [["RequestError: Unknown event", "the server refused an event"]]);
});
