import assert from "node:assert/strict";
import { test } from "node:test";

import { World } from "./support.js";

test("a dead link is found without a close event", async () => {
  const world = new World();
  const socket = world.open();
  await world.clock.advance(34_999);
  assert.equal(world.client.state, "open");
  await world.clock.advance(1);
  assert.equal(world.client.status.reason?.kind, "dead");
  assert.ok(!socket.isLive);
  assert.equal(world.retry.delayMs, 500);
});

test("any frame is life", async () => {
  const world = new World();
  const socket = world.open();
  for (let round = 0; round < 10; round += 1) {
    await world.clock.advance(30_000);
    socket.receive(round % 2 ? "wsrt.ping" : "said");
  }
  assert.equal(world.client.state, "open");
});

test("times of the server's greeting count, and the option before them", async () => {
  for (const [hello, timings, expected] of [
    [{ heartbeat: 2, heartbeat_timeout: 1 }, {}, 3_000],
    [{ heartbeat: 2, heartbeat_timeout: 1 }, { deadAfterMs: 700 }, 700],
  ] as const) {
    const world = new World({ timings });
    world.open(hello);
    await world.clock.advance(expected - 1);
    assert.equal(world.client.state, "open");
    await world.clock.advance(1);
    assert.equal(world.client.status.reason?.kind, "dead");
  }
});

test("after a standstill it asks, and an answer keeps the connection", async () => {
  const world = new World();
  const socket = world.open();
  await world.clock.freeze(600_000);
  assert.equal(socket.named("wsrt.ping").length, 1);
  socket.receive("wsrt.pong");
  await world.clock.advance(30_000);
  assert.equal(world.client.state, "open");
  assert.equal(world.sockets.length, 1);
});

test("after a standstill silence for three seconds is death", async () => {
  const world = new World();
  world.open();
  await world.clock.freeze(600_000);
  await world.clock.advance(2_999);
  assert.equal(world.client.state, "open");
  await world.clock.advance(1);
  assert.equal(world.client.status.reason?.kind, "dead");
});

test("timers that run once a minute find a dead link all the same", async () => {
  const world = new World();
  world.open();
  for (let minute = 0; minute < 4 && world.client.state === "open"; minute += 1) await world.clock.freeze(60_000);
  assert.equal(world.client.state, "waiting");
});

test("timers that run once a minute do not end a link that lives", async () => {
  const world = new World();
  const socket = world.open();
  for (let minute = 0; minute < 10; minute += 1) {
    await world.clock.freeze(60_000);
    socket.receive("wsrt.ping");
  }
  assert.equal(world.client.state, "open");
});

test("a page that becomes visible asks at once where nothing was heard for a heartbeat", async () => {
  const world = new World();
  const socket = world.open();
  world.clock.now += 26_000;
  world.page.signal("visible");
  assert.equal(socket.named("wsrt.ping").length, 1);
  await world.clock.advance(3_000);
  assert.equal(world.client.status.reason?.kind, "dead");
});

test("a page that becomes visible does not ask where something was just heard", () => {
  const world = new World();
  const socket = world.open();
  world.clock.now += 24_000;
  world.page.signal("visible");
  assert.deepEqual(socket.named("wsrt.ping"), []);
});

test("signals one after another ask once", () => {
  const world = new World();
  const socket = world.open();
  world.clock.now += 30_000;
  for (const signal of ["resume", "visible", "pageshow", "online"] as const) world.page.signal(signal);
  assert.equal(socket.named("wsrt.ping").length, 1);
});

test("a server that never pings is asked, and given as long as any", async () => {
  const world = new World();
  const socket = world.open({ heartbeat: null, heartbeat_timeout: null });
  await world.clock.advance(25_000);
  assert.equal(socket.named("wsrt.ping").length, 1);
  socket.receive("wsrt.pong");
  await world.clock.advance(25_000);
  assert.equal(socket.named("wsrt.ping").length, 2);
  await world.clock.advance(2_900);
  assert.equal(world.client.state, "open");
  await world.clock.advance(100);
  assert.equal(world.client.status.reason?.kind, "dead");
});

test("a clock that is set back ends nothing", async () => {
  const world = new World();
  const socket = world.open();
  world.clock.now -= 3_600_000;
  await world.clock.advance(20_000);
  socket.receive("wsrt.ping");
  await world.clock.advance(30_000);
  assert.equal(world.client.state, "open");
});
