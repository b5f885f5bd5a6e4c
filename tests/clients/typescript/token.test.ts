import assert from "node:assert/strict";
import { test } from "node:test";

import { UnauthorizedError } from "../../../wsrt/clients/typescript/errors.js";
import { World } from "./support.js";

/** A getToken that is answered by hand. */
function teller() {
  const calls: { resolve: (token: string) => void; reject: (error: Error) => void }[] = [];
  const getToken = () => new Promise<string>((resolve, reject) => calls.push({ resolve, reject }));
  return { calls, getToken };
}

test("a token is asked for before the first dial, and kept", async () => {
  const { calls, getToken } = teller();
  const world = new World({ getToken });
  void world.client.connect();
  assert.equal(world.sockets.length, 0);
  calls[0]!.resolve("t1");
  await world.clock.advance(0);
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "bearer.t1"]);
  world.welcome();
  world.socket.end(1006);
  await world.retried();
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "bearer.t1"]);
  assert.equal(calls.length, 1);
});

test("4401 asks for a new token before the next dial", async () => {
  const { calls, getToken } = teller();
  const world = new World({ token: "t1", getToken });
  world.open().end(4401, "Credentials expired");
  await world.clock.advance(world.retry.delayMs);
  assert.equal(calls.length, 1);
  assert.equal(world.sockets.length, 1);
  calls[0]!.resolve("t2");
  await world.clock.advance(0);
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "bearer.t2"]);
});

test("calls that meet are merged, and the older dial is forgotten", async () => {
  const { calls, getToken } = teller();
  const world = new World({ getToken });
  void world.client.connect();
  world.client.close();
  void world.client.connect();
  void world.client.connect();
  assert.equal(calls.length, 1);
  calls[0]!.resolve("t1");
  await world.clock.advance(0);
  assert.equal(world.sockets.length, 1);
});

test("a token that comes after close is not used", async () => {
  const { calls, getToken } = teller();
  const world = new World({ getToken });
  void world.client.connect();
  world.client.close();
  calls[0]!.resolve("t1");
  await world.clock.advance(10_000);
  assert.equal(world.sockets.length, 0);
  assert.equal(world.client.state, "closed");
});

test("UnauthorizedError ends it for good", async () => {
  const world = new World({ getToken: () => Promise.reject(new UnauthorizedError("signed out")) });
  await assert.rejects(world.client.connect(), UnauthorizedError);
  assert.deepEqual(world.client.status.reason, { kind: "unauthorized", code: null, text: "signed out" });
  assert.equal(world.clock.timers, 0);
});

test("UnauthorizedError that is thrown, not promised, ends it too", async () => {
  const world = new World({
    getToken: () => {
      throw new UnauthorizedError();
    },
  });
  await assert.rejects(world.client.connect(), UnauthorizedError);
});

test("another error is reported, and asked again after a growing time", async () => {
  let calls = 0;
  const world = new World({
    getToken: () => {
      calls += 1;
      throw new Error("502");
    },
  });
  void world.client.connect();
  await world.clock.advance(0);
  const delays = [];
  for (let round = 0; round < 3; round += 1) {
    delays.push(world.retry.delayMs);
    await world.clock.advance(world.retry.delayMs);
  }
  assert.deepEqual(delays, [700, 1200, 2200]);
  assert.equal(calls, 4);
  assert.equal(world.client.status.reason?.kind, "token");
  assert.match(world.errors[0]!.join(), /502.*getToken/);
});

test("4401 without getToken is for good", () => {
  const world = new World({ token: "t1" });
  world.open().end(4401, "Unauthenticated");
  assert.deepEqual(world.client.status.reason, { kind: "unauthorized", code: 4401, text: "Unauthenticated" });
});

test("a server that refuses every token is met with growing delays", async () => {
  const world = new World({ getToken: () => "bad" });
  void world.client.connect();
  await world.clock.advance(0);
  const delays = [];
  for (let round = 0; round < 4; round += 1) {
    world.socket.accept();
    world.socket.end(4401, "Unauthenticated");
    delays.push(world.retry.delayMs);
    await world.retried();
  }
  assert.deepEqual(delays, [700, 1200, 2200, 4200]);
});
