import assert from "node:assert/strict";
import { test } from "node:test";

import { browserPage, type PageSignal } from "../../../wsrt/clients/runtime/typescript/page.js";
import { World } from "./support.js";

test("offline gives the socket up", () => {
  const world = new World();
  const socket = world.open();
  world.page.signal("offline");
  assert.ok(!socket.isLive);
  assert.equal(world.client.status.reason?.kind, "offline");
});

for (const signal of ["online", "visible", "pageshow", "resume"] as const) {
  test(`${signal} brings a retry forward`, async () => {
    const world = new World();
    void world.client.connect();
    for (let round = 0; round < 6; round += 1) {
      world.socket.end(1006);
      if (round < 5) await world.retried();
    }
    assert.ok(world.retry.delayMs > 10_000);
    world.page.signal(signal);
    assert.deepEqual([world.retry.attempt, world.retry.delayMs], [6, 500]);
    await world.retried();
    assert.equal(world.client.state, "connecting");
  });

  test(`${signal} does not make a retry later`, async () => {
    const world = new World();
    world.open().end(1006);
    await world.clock.advance(400);
    world.page.signal(signal);
    await world.clock.advance(100);
    assert.equal(world.client.state, "connecting");
  });

  test(`${signal} does not bring forward what the server asked for`, () => {
    const world = new World();
    const socket = world.open();
    socket.receive("wsrt.closing", { retry_after_ms: 20_000 });
    socket.end(1001, "Server shutting down");
    world.page.signal(signal);
    assert.equal(world.retry.delayMs, 20_000);
  });

  test(`${signal} does nothing while connecting or closed`, () => {
    const world = new World();
    void world.client.connect();
    world.page.signal(signal);
    assert.equal(world.sockets.length, 1);
    world.client.close();
    world.page.signal(signal);
    assert.equal(world.client.state, "closed");
  });
}

test("a page that is left closes without a code, and dials no more", async () => {
  const world = new World();
  const socket = world.open();
  world.page.signal("pagehide");
  assert.equal(socket.closedWith, null);
  assert.equal(world.client.status.reason?.kind, "page");
  world.page.signal("online");
  await world.clock.advance(1_000_000);
  assert.equal(world.sockets.length, 1);
});

test("a page out of the back/forward cache connects again", async () => {
  const world = new World();
  world.open();
  world.page.signal("pagehide");
  await world.clock.freeze(600_000);
  world.page.signal("pageshow");
  assert.deepEqual([world.retry.attempt, world.retry.delayMs], [1, 500]);
  await world.retried();
  world.welcome();
  assert.equal(world.client.state, "open");
});

for (const [what, end] of [
  ["LATER", (world: World) => world.socket.end(4429, "Rate limited")],
  ["a hint", (world: World) => hinted(world).end(1001, "Server shutting down")],
  ["a hint before it was left", (world: World) => void hinted(world)],
] as const) {
  test(`a page that is back waits for what is left of ${what}`, async () => {
    const world = new World();
    world.open();
    end(world);
    world.page.signal("pagehide");
    await world.clock.freeze(1_700);
    world.page.signal("pageshow");
    assert.deepEqual([world.retry.attempt, world.retry.delayMs], [1, 4_000]);
    for (const signal of ["visible", "online", "resume"] as const) world.page.signal(signal);
    await world.clock.advance(3_999);
    assert.equal(world.sockets.length, 1);
    await world.clock.advance(1);
    assert.equal(world.sockets.length, 2);
  });

  test(`a page that is back after ${what} dials soon`, async () => {
    const world = new World();
    world.open();
    end(world);
    world.page.signal("pagehide");
    await world.clock.freeze(5_700);
    world.page.signal("pageshow");
    assert.deepEqual([world.retry.attempt, world.retry.delayMs], [1, 500]);
  });
}

test("a clock that was set back makes no page wait for longer than the server said", () => {
  const world = new World();
  world.open();
  hinted(world).end(1001, "Server shutting down");
  world.page.signal("pagehide");
  world.clock.now -= 3_600_000;
  world.page.signal("pageshow");
  assert.equal(world.retry.delayMs, 5_700);
});

test("connect dials at once, whatever time the server named before the page was left", () => {
  const world = new World();
  world.open().end(4429, "Rate limited");
  world.page.signal("pagehide");
  void world.client.connect();
  assert.equal(world.sockets.length, 2);
  world.socket.end(1006);
  world.page.signal("visible");
  assert.equal(world.retry.delayMs, 500);
});

function hinted(world: World): World["socket"] {
  world.socket.receive("wsrt.closing", { retry_after_ms: 5_700 });
  return world.socket;
}

test("a page that is hidden for five minutes dials no more until it is visible", async () => {
  const world = new World();
  world.open();
  world.page.signal("hidden");
  world.socket.end(1006);
  for (let round = 0; round < 100 && world.client.status.retry; round += 1) {
    (await world.retried().catch(() => null))?.end(1006);
  }
  const dials = world.sockets.length;
  assert.equal(world.client.status.reason?.kind, "page");
  assert.equal(world.clock.timers, 0);
  world.page.signal("visible");
  await world.retried();
  assert.equal(world.sockets.length, dials + 1);
});

test("a hidden page keeps a connection that works", async () => {
  const world = new World();
  const socket = world.open();
  world.page.signal("hidden");
  for (let round = 0; round < 20; round += 1) {
    await world.clock.advance(25_000);
    socket.receive("wsrt.ping");
  }
  assert.equal(world.client.state, "open");
});

test("the page of a browser is listened to, and let go", { skip: "document" in globalThis }, () => {
  const [document, window] = [target({ visibilityState: "visible" }), target({})];
  Object.assign(globalThis, { document, window });
  try {
    const page = browserPage()!;
    const signals: PageSignal[] = [];
    const stop = page.subscribe((signal) => signals.push(signal));
    for (const type of ["online", "offline", "pageshow", "pagehide"]) window.tell(type);
    for (const type of ["freeze", "resume", "visibilitychange"]) document.tell(type);
    document.visibilityState = "hidden";
    document.tell("visibilitychange");
    assert.ok(page.isHidden);
    assert.deepEqual(signals, ["online", "offline", "pageshow", "pagehide", "freeze", "resume", "visible", "hidden"]);
    stop();
    assert.equal(document.listeners.size + window.listeners.size, 0);
  } finally {
    Reflect.deleteProperty(globalThis, "document");
    Reflect.deleteProperty(globalThis, "window");
  }
  assert.equal(browserPage(), null);
});

function target<Extra extends object>(extra: Extra) {
  const listeners = new Map<string, () => void>();
  return {
    ...extra,
    listeners,
    addEventListener: (type: string, run: () => void) => void listeners.set(type, run),
    removeEventListener: (type: string, run: () => void) => void (listeners.get(type) === run && listeners.delete(type)),
    tell: (type: string) => listeners.get(type)?.(),
  };
}
