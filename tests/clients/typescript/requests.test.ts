import assert from "node:assert/strict";
import { test } from "node:test";

import { environment } from "../../../wsrt/clients/runtime/typescript/environment.js";
import {
  ConnectionError,
  PayloadTooLargeError,
  QueueExpiredError,
  QueueFullError,
  RequestError,
  TimeoutError,
} from "../../../wsrt/clients/runtime/typescript/errors.js";
import { World } from "./support.js";

test("a request is answered by the frame with its ref", async () => {
  const world = new World();
  const socket = world.open();
  const [first, second] = [world.client.request("echo", { value: 1 }), world.client.request("echo", { value: 2 })];
  const [one, two] = socket.named("echo").map((frame) => frame.ref);
  socket.receive("echoed", { value: 2 }, { ref: two });
  socket.receive("echoed", { value: 1 }, { ref: one });
  assert.deepEqual(await Promise.all([first, second]), [{ value: 1 }, { value: 2 }]);
  assert.equal(world.clock.timers, 1); // the watch
});

test("wsrt.ok is undefined", async () => {
  const world = new World();
  const socket = world.open();
  const answer = world.client.request("say");
  socket.receive("wsrt.ok", {}, { ref: socket.named("say")[0].ref });
  assert.equal(await answer, undefined);
});

test("an answer isn't an event", () => {
  const world = new World();
  const socket = world.open();
  world.client.on("echoed", () => assert.fail());
  void world.client.request("echo").catch(() => {});
  socket.receive("echoed", {}, { ref: socket.named("echo")[0].ref });
  socket.receive("echoed", {}, { ref: "unknown" });
});

test("wsrt.error rejects with what it says", async () => {
  const world = new World();
  const socket = world.open();
  const answer = world.client.request("say", { text: "" });
  const errors = [{ loc: ["text"], msg: "too short", type: "string_too_short" }];
  const data = { code: "invalid_data", message: "Invalid event data", errors };
  socket.receive("wsrt.error", data, { ref: socket.named("say")[0].ref });
  await assert.rejects(answer, (error: RequestError) => {
    assert.ok(error instanceof RequestError);
    assert.deepEqual([error.code, error.message, error.errors], ["invalid_data", "Invalid event data", errors]);
    return true;
  });
});

test("no answer in time rejects, and a late one is ignored", async () => {
  const world = new World();
  const socket = world.open();
  const [short, long] = [world.client.request("echo", {}, { timeout: 50 }), world.client.request("echo")];
  const rejected = [assert.rejects(short, TimeoutError), assert.rejects(long, TimeoutError)];
  await world.clock.advance(50);
  await rejected[0];
  await world.clock.advance(9_950);
  await rejected[1];
  socket.receive("echoed", {}, { ref: socket.named("echo")[0].ref });
  assert.deepEqual(world.errors, []);
});

test("a lost connection rejects at once what was not answered", async () => {
  for (const end of [
    (world: World) => world.socket.end(1006),
    (world: World) => world.socket.end(4403),
    (world: World) => world.client.close(),
    (world: World) => world.page.signal("offline"),
    (world: World) => world.page.signal("pagehide"),
  ]) {
    const world = new World();
    world.open();
    const answer = assert.rejects(world.client.request("echo"), ConnectionError);
    end(world);
    await answer;
  }
});

test("without a connection a request rejects at once", async () => {
  const world = new World();
  await assert.rejects(world.client.request("echo"), ConnectionError);
  await assert.rejects(world.client.request("echo", {}, { queue: true }), ConnectionError);
  void world.client.connect();
  await assert.rejects(world.client.request("echo"), ConnectionError);
  assert.equal(world.clock.timers, 1); // the dial
});

test("a request that may wait leaves once it is open, and is answered", async () => {
  const world = new World();
  void world.client.connect();
  const answer = world.client.request("echo", { value: 1 }, { queue: true });
  const socket = world.welcome();
  socket.receive("echoed", { value: 1 }, { ref: socket.named("echo")[0].ref });
  assert.deepEqual(await answer, { value: 1 });
});

test("a request that waits survives a connection that fails, and is sent once", async () => {
  const world = new World();
  void world.client.connect();
  const answer = world.client.request("echo", {}, { queue: true });
  world.socket.end(1006);
  await world.retried();
  const socket = world.welcome();
  assert.equal(socket.named("echo").length, 1);
  const lost = assert.rejects(answer, ConnectionError);
  socket.end(1006);
  await lost;
  await world.retried();
  assert.equal(world.welcome().named("echo").length, 0);
});

test("a request that times out while it waits is never sent", async () => {
  const world = new World();
  void world.client.connect();
  const answer = assert.rejects(world.client.request("echo", {}, { queue: true, timeout: 100 }), TimeoutError);
  await world.clock.advance(100);
  await answer;
  assert.equal(world.welcome().named("echo").length, 0);
});

test("a request that waits too long rejects", async () => {
  const world = new World({ timings: { connectTimeoutMs: 100_000 } });
  void world.client.connect();
  const answer = world.client.request("echo", {}, { queue: true, timeout: 60_000 });
  const rejected = assert.rejects(answer, QueueExpiredError);
  await world.clock.advance(30_000);
  await rejected;
  assert.equal(world.clock.timers, 1); // the dial
});

test("close rejects what waits", async () => {
  const world = new World();
  void world.client.connect();
  const answer = assert.rejects(world.client.request("echo", {}, { queue: true }), ConnectionError);
  world.client.close();
  await answer;
  assert.equal(world.clock.timers, 0);
});

test("what cannot be said, or is too large, or has no place to wait, rejects", async () => {
  const world = new World({ queue: { items: 0 } });
  void world.client.connect();
  await assert.rejects(world.client.request("echo", {}, { queue: true }), QueueFullError);
  world.welcome({ max_payload: 100 });
  await assert.rejects(world.client.request("echo", { value: "ä".repeat(50) }), PayloadTooLargeError);
  await assert.rejects(world.client.request("echo", { value: 1n }), TypeError);
  assert.equal(world.socket.named("echo").length, 0);
  assert.equal(world.clock.timers, 1);
});

test("refs are strings, unique over connections and clients", async () => {
  const refs: string[] = [];
  for (let client = 0; client < 3; client += 1) {
    const world = new World({ random: Math.random });
    world.open();
    for (let round = 0; round < 3; round += 1) {
      for (let number = 0; number < 50; number += 1) void world.client.request("echo").catch(() => {});
      refs.push(...world.socket.named("echo").map((frame) => frame.ref));
      world.socket.end(1006);
      await world.retried();
      world.welcome();
    }
  }
  assert.equal(new Set(refs).size, 450);
  assert.ok(refs.every((ref) => typeof ref === "string" && ref.length <= 64));
});

test("a request that may take for ever does not time out at once", async () => {
  const { setTimeout, clearTimeout } = environment();
  const timer = setTimeout(() => assert.fail(), Infinity);
  await new Promise((resolve) => setTimeout(() => resolve(null), 10));
  clearTimeout(timer);
});
