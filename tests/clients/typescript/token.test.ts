import assert from "node:assert/strict";
import { test } from "node:test";

import { UnauthorizedError } from "../../../wsrt/clients/runtime/typescript/errors.js";
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

test("a token that no subprotocol can have is told without it", async () => {
  for (const token of ["eyJh.SECRET==", "SECRET:x", "a SECRET", "SECRET/x"]) {
    const world = new World({ token });
    await assert.rejects(world.client.connect(), (error: Error) => !error.message.includes("SECRET"));
    assert.equal(world.client.status.reason?.kind, "invalid");
    assert.match(world.client.status.reason?.text ?? "", /^the token has characters/);
    assert.ok(world.errors.length > 0 && !world.errors.some(([text]) => text.includes("SECRET")));
    assert.equal(world.sockets.length, 0);
  }
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
  world.page.signal("pagehide");
  void world.client.connect();
  void world.client.connect();
  assert.equal(calls.length, 1);
  calls[0]!.resolve("t1");
  await world.clock.advance(0);
  assert.equal(world.sockets.length, 1);
});

test("after close another token is requested, and the older one is ignored", async () => {
  const { calls, getToken } = teller();
  const world = new World({ getToken });
  void world.client.connect();
  world.client.close();
  void world.client.connect();
  assert.equal(calls.length, 2);
  calls[0]!.resolve("t1");
  await world.clock.advance(0);
  assert.equal(world.sockets.length, 0);
  void world.client.connect();
  assert.equal(calls.length, 2);
  calls[1]!.resolve("t2");
  await world.clock.advance(0);
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "bearer.t2"]);
  world.socket.end(1006);
  await world.retried();
  assert.equal(calls.length, 2);
});

test("a token that fails after close has no effect", async () => {
  const { calls, getToken } = teller();
  const world = new World({ getToken });
  void world.client.connect();
  world.client.close();
  void world.client.connect();
  calls[0]!.reject(new UnauthorizedError("signed out"));
  await world.clock.advance(0);
  assert.equal(world.client.state, "connecting");
  assert.equal(calls.length, 2);
});

test("a token that never comes is given up after the connect time-out, and requested again", async () => {
  const { calls, getToken } = teller();
  const world = new World({ getToken });
  void world.client.connect();
  await world.clock.advance(4_999);
  assert.equal(world.client.state, "connecting");
  await world.clock.advance(1);
  assert.deepEqual(world.client.status.reason?.kind, "token");
  assert.equal(world.retry.delayMs, 700);
  assert.match(world.errors[0]!.join(), /TimeoutError.*getToken/);
  await world.clock.advance(700);
  assert.equal(calls.length, 2);
  calls[0]!.resolve("late");
  await world.clock.advance(0);
  assert.equal(world.sockets.length, 0);
  calls[1]!.resolve("t2");
  await world.clock.advance(0);
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "bearer.t2"]);
});

test("a token that came late leaves the socket its time", async () => {
  const { calls, getToken } = teller();
  const world = new World({ getToken });
  void world.client.connect();
  await world.clock.advance(4_000);
  calls[0]!.resolve("t1");
  await world.clock.advance(4_000);
  world.welcome();
  assert.equal(world.client.state, "open");
});

test("a URL that never comes is given up too", async () => {
  const world = new World({ url: () => new Promise<string>(() => {}) });
  void world.client.connect();
  await world.clock.advance(5_000);
  assert.equal(world.client.status.reason?.kind, "token");
});

test("a getToken that closes leaves nothing behind", async () => {
  const world: World = new World({
    getToken: () => {
      world.client.close();
      return "t1";
    },
  });
  void world.client.connect();
  await world.clock.advance(10_000);
  assert.equal(world.clock.timers + world.sockets.length, 0);
});

test("null, undefined and an empty text are no token", async () => {
  for (const token of [null, undefined, ""]) {
    for (const options of [{ token }, { getToken: () => token }, { getToken: async () => token }]) {
      const world = new World(options);
      void world.client.connect();
      await world.clock.advance(0);
      assert.deepEqual(world.socket.protocols, ["wsrt.v1"]);
    }
  }
});

test("who has no token yet is asked again after 4401", async () => {
  const tokens = [null, "t1"];
  const world = new World({ getToken: () => tokens.shift() });
  void world.client.connect();
  await world.clock.advance(0);
  world.welcome().end(4401, "Unauthenticated");
  await world.clock.advance(world.retry.delayMs);
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "bearer.t1"]);
});

test("promises that are not of this realm are waited for", async () => {
  const thenable = <Value>(value: Value): PromiseLike<Value> => ({
    then: (onValue, onError) => Promise.resolve(value).then(onValue, onError),
  });
  const world = new World({ getToken: () => thenable("t1"), url: () => thenable("ws://test/then/") });
  void world.client.connect();
  await world.clock.advance(0);
  assert.deepEqual([world.socket.url, world.socket.protocols], ["ws://test/then/", ["wsrt.v1", "bearer.t1"]]);
});

test("a URL that is promised elsewhere is waited for where there is no getToken", async () => {
  const world = new World({ url: () => ({ then: (onValue: any) => onValue("ws://test/then/") }) as PromiseLike<string> });
  void world.client.connect();
  await world.clock.advance(0);
  assert.equal(world.socket.url, "ws://test/then/");
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
