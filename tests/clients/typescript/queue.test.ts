import assert from "node:assert/strict";
import { test } from "node:test";

import { ConnectionError, PayloadTooLargeError, QueueFullError } from "../../../wsrt/clients/runtime/typescript/errors.js";
import { World } from "./support.js";

const QUEUE = { queue: true };

/** A client that dials, and for long. */
function dialing(): World {
  const world = new World({ timings: { connectTimeoutMs: 100_000 } });
  void world.client.connect();
  return world;
}

test("without a connection an event is dropped, and says so", () => {
  const world = new World();
  assert.equal(world.client.send("say", { text: "a" }), "dropped");
  assert.deepEqual(world.open().named("say"), []);
});

test("what was queued leaves after the greeting, in order, once", async () => {
  const world = dialing();
  for (const text of ["a", "b"]) assert.equal(world.client.send("say", { text }, QUEUE), "queued");
  world.socket.accept();
  assert.deepEqual(world.socket.named("say"), []);
  world.client.send("say", { text: "c" }, QUEUE);
  world.socket.hello();
  assert.equal(world.client.send("say", { text: "d" }), "sent");
  assert.deepEqual(texts(world), ["a", "b", "c", "d"]);
  world.socket.end(1006);
  await world.retried();
  world.welcome();
  assert.deepEqual(texts(world), []);
});

test("data may be left out", () => {
  const world = new World();
  const socket = world.open();
  world.client.send("bye");
  world.client.send("bye", null);
  assert.deepEqual(socket.named("bye"), [
    { event: "bye", data: {} },
    { event: "bye", data: null },
  ]);
});

test("a hundred events wait, not one more", () => {
  const world = dialing();
  for (let number = 0; number < 100; number += 1) world.client.send("say", { number }, QUEUE);
  assert.throws(() => world.client.send("say", {}, QUEUE), QueueFullError);
  assert.equal(world.welcome().named("say").length, 100);
  assert.equal(world.client.send("say", {}), "sent");
});

test("64 KB wait, counted in bytes, not one more", () => {
  const world = dialing();
  world.client.send("say", "ä".repeat(16_000), QUEUE);
  world.client.send("say", "x".repeat(32_000), QUEUE);
  assert.throws(() => world.client.send("say", "ä".repeat(1_000), QUEUE), QueueFullError);
  world.client.send("say", "x".repeat(1_000), QUEUE);
});

test("after thirty seconds what waits is dropped, and reported", async () => {
  const world = dialing();
  world.client.send("say", { text: "a" }, QUEUE);
  await world.clock.advance(15_000);
  world.client.send("say", { text: "b" }, QUEUE);
  await world.clock.advance(15_000);
  assert.equal(world.errors.length, 1);
  assert.match(world.errors[0]!.join(), /QueueExpiredError.*sending say/);
  world.welcome();
  assert.deepEqual(texts(world), ["b"]);
});

test("what grew too old while everything stood still is not sent", async () => {
  const world = dialing();
  world.client.send("say", { text: "a" }, QUEUE);
  world.clock.now += 31_000;
  world.welcome();
  assert.deepEqual(texts(world), []);
});

test("a congested socket is not written to until it has room", async () => {
  const world = new World();
  const socket = world.open();
  socket.bufferedAmount = 1_048_577;
  assert.equal(world.client.send("say", { text: "a" }), "queued");
  const answer = world.client.request("echo");
  assert.deepEqual(socket.named("say"), []);
  socket.bufferedAmount = 0;
  assert.equal(world.client.send("say", { text: "b" }), "queued"); // behind those that wait
  await world.clock.advance(50);
  assert.deepEqual(
    socket.sent.slice(1).map((frame) => frame.event),
    ["say", "echo", "say"],
  );
  socket.receive("echoed", 1, { ref: socket.named("echo")[0].ref });
  assert.equal(await answer, 1);
});

test("a congested socket gets only the latest of a key, in the place of the first", async () => {
  const world = new World();
  const socket = world.open();
  socket.bufferedAmount = 2_000_000;
  for (let x = 0; x < 500; x += 1) {
    world.client.send("cursor", { x }, { volatile: "mine" });
    if (x === 0) world.client.send("say", { text: "a" });
  }
  world.client.send("cursor", { x: -1 }, { volatile: "other" });
  socket.bufferedAmount = 0;
  await world.clock.advance(50);
  assert.deepEqual(
    socket.sent.slice(1).map(({ data }) => data.x ?? data.text),
    [499, "a", -1],
  );
});

test("a volatile event is dropped without a connection, unless it may wait", () => {
  const world = dialing();
  assert.equal(world.client.send("cursor", { x: 1 }, { volatile: "mine" }), "dropped");
  world.client.send("cursor", { x: 2 }, { volatile: "mine", queue: true });
  world.client.send("cursor", { x: 3 }, { volatile: "mine", queue: true });
  assert.deepEqual(
    world.welcome().named("cursor").map(({ data }) => data.x),
    [3],
  );
});

test("what waits for room in a connection is not sent over the next", async () => {
  const world = new World();
  const socket = world.open();
  socket.bufferedAmount = 2_000_000;
  assert.equal(world.client.send("say", { text: "once" }), "queued");
  assert.equal(world.client.send("say", { text: "patient" }, QUEUE), "queued");
  const answer = world.client.request("pay");
  socket.end(1006);
  await assert.rejects(answer, ConnectionError);
  assert.deepEqual(world.errors, [["ConnectionError: say was not sent: the connection was lost", "sending say"]]);
  await world.retried();
  world.welcome();
  assert.deepEqual(texts(world), ["patient"]);
});

test("congestion that lasts is bounded", async () => {
  const world = new World();
  const socket = world.open();
  socket.bufferedAmount = 2_000_000;
  for (let number = 0; number < 100; number += 1) world.client.send("say", { number });
  assert.throws(() => world.client.send("say", {}), QueueFullError);
  await world.clock.advance(30_000);
  assert.equal(world.errors.length, 100);
  assert.deepEqual(socket.named("say"), []);
});

test("what is larger than the server takes is refused here", () => {
  const world = new World();
  world.open({ max_payload: 60 });
  assert.throws(() => world.client.send("say", "x".repeat(60)), PayloadTooLargeError);
  assert.equal(world.client.send("say", "x".repeat(30)), "sent");
});

test("what waited and turns out too large is reported, and the rest leaves", () => {
  const world = dialing();
  world.client.send("say", { text: "x".repeat(100) }, QUEUE);
  world.client.send("say", { text: "b" }, QUEUE);
  world.welcome({ max_payload: 60 });
  assert.deepEqual(texts(world), ["b"]);
  assert.match(world.errors[0]!.join(), /PayloadTooLargeError/);
});

test("nothing waits while the client is closed: it may never connect", () => {
  const world = new World();
  assert.equal(world.client.send("say", { text: "a" }, QUEUE), "dropped");
  world.open();
  world.client.onState(({ state }) => state === "closed" && world.client.send("say", { text: "b" }, QUEUE));
  world.client.close();
  assert.equal(world.client.send("say", { text: "c" }, QUEUE), "dropped");
  assert.equal(world.clock.timers, 0);
  world.open();
  assert.deepEqual(texts(world), []);
});

test("close forgets what waits", () => {
  const world = new World();
  void world.client.connect();
  world.client.send("say", { text: "a" }, QUEUE);
  world.client.close();
  assert.deepEqual(world.open().named("say"), []);
});

function texts(world: World): string[] {
  return world.socket.named("say").map(({ data }) => data.text);
}
