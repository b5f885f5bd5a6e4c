import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../../../wsrt/clients/runtime/typescript/backoff.js";
import { World } from "./support.js";

const TIMINGS = {
  minMs: 200,
  baseMs: 500,
  capMs: 20_000,
  jumpMs: 500,
  laterMs: 5_000,
  spreadMs: 5_000,
  stableMs: 10_000,
  renewMs: 60_000,
  connectTimeoutMs: 5_000,
  helloTimeoutMs: 15_000,
  deadAfterMs: null,
  idleMs: 25_000,
  probeMs: 3_000,
  closeTimeoutMs: 2000,
  hiddenAfterMs: 300_000,
  requestTimeoutMs: 10_000,
  bufferBytes: 1_048_576,
};

test("at the cap 10,000 clients still spread evenly over the whole window", () => {
  const counts = new Array<number>(20).fill(0);
  for (let client = 0; client < 10_000; client += 1) {
    const backoff = new Backoff(TIMINGS, Math.random);
    backoff.attempt = 20;
    const delay = backoff.next("backoff") - TIMINGS.minMs;
    assert.ok(delay >= 0 && delay < TIMINGS.capMs);
    counts[Math.floor(delay / 1000)]! += 1;
  }
  // 500 in each second, give or take six standard deviations.
  for (const count of counts) assert.ok(Math.abs(count - 500) < 135, `${counts}`);
});

test("the window doubles with each attempt up to the cap", () => {
  const backoff = new Backoff(TIMINGS, () => 1);
  const delays = Array.from({ length: 8 }, () => backoff.next("backoff") - TIMINGS.minMs);
  assert.deepEqual(delays, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
});

test("after thousands of attempts the window is still the cap", () => {
  const backoff = new Backoff(TIMINGS, () => 1);
  backoff.attempt = 5000;
  assert.equal(backoff.next("backoff"), 20_200);
});

test("a hint is taken as it is, once", () => {
  const backoff = new Backoff(TIMINGS, () => 1);
  assert.equal(backoff.next("spread", 12_345), 12_345);
  assert.equal(backoff.next("backoff"), 1200);
});

test("LATER waits five seconds or more", () => {
  assert.equal(new Backoff(TIMINGS, () => 0).next("later", null, false, 5000), 5200);
});

test("SPREAD without a hint spreads over its own window", () => {
  assert.equal(new Backoff(TIMINGS, () => 1).next("spread"), 5200);
});

test("attempts start over only after a stable connection", () => {
  const backoff = new Backoff(TIMINGS, () => 1);
  backoff.next("backoff");
  backoff.ended(9_999);
  backoff.ended(null);
  assert.equal(backoff.attempt, 1);
  backoff.ended(10_000);
  assert.equal(backoff.attempt, 0);
});

test("a server that accepts, greets and closes is met with growing delays", async () => {
  const world = new World();
  world.open().end(1011);
  const delays = [];
  for (let round = 0; round < 8; round += 1) {
    delays.push(world.retry.delayMs);
    await world.retried();
    world.welcome().end(1011);
  }
  assert.deepEqual(delays, [700, 1200, 2200, 4200, 8200, 16_200, 20_200, 20_200]);
});

test("a server that accepts and refuses is met with growing delays, and never seen as open", async () => {
  const world = new World();
  void world.client.connect();
  for (let round = 1; round < 5; round += 1) {
    world.socket.accept();
    world.socket.end(4408);
    assert.equal(world.retry.attempt, round);
    await world.retried();
  }
  assert.ok(world.statuses.every(({ state }) => state !== "open"));
});

test("after ten seconds of stability the first attempt is the first again", async () => {
  const world = new World();
  world.open().end(1011);
  await world.retried();
  world.welcome();
  await world.clock.advance(10_000);
  world.socket.end(1011);
  assert.deepEqual([world.retry.attempt, world.retry.delayMs], [1, 700]);
});

test("a lost network is tried again within half a second, once", async () => {
  const world = new World();
  world.open().end(1006);
  assert.equal(world.retry.delayMs, 500);
  (await world.retried()).end(1006);
  assert.equal(world.retry.delayMs, 1200);
});

test("a first dial that fails backs off", () => {
  const world = new World();
  void world.client.connect();
  world.socket.end(1006);
  assert.equal(world.retry.delayMs, 700);
});
