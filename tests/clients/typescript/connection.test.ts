import assert from "node:assert/strict";
import { test } from "node:test";

import { ConnectionError } from "../../../wsrt/clients/runtime/typescript/errors.js";
import { byteLength, socketUrl } from "../../../wsrt/clients/runtime/typescript/environment.js";
import { World } from "./support.js";

test("it dials with the subprotocol and greets with its positions before the server does", () => {
  const world = new World({ protocols: ["chat"], token: "t0" });
  void world.client.connect();
  assert.equal(world.socket.url, "ws://test/chat/");
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "chat", "bearer.t0"]);
  world.socket.accept();
  assert.deepEqual(world.socket.sent, [{ event: "wsrt.resume", data: {} }]);
});

test("it is open once the server has greeted", async () => {
  const world = new World();
  const connected = world.client.connect();
  world.socket.accept();
  assert.equal(world.client.state, "connecting");
  world.socket.hello();
  assert.equal(world.client.state, "open");
  await connected;
});

test("a ping is answered with a pong, with its ref", () => {
  const socket = new World().open();
  socket.receive("wsrt.ping");
  socket.receive("wsrt.ping", {}, { ref: "7" });
  assert.deepEqual(socket.named("wsrt.pong"), [
    { event: "wsrt.pong", data: {} },
    { event: "wsrt.pong", data: {}, ref: "7" },
  ]);
});

test("a dial that is not answered within five seconds is given up", async () => {
  const world = new World();
  void world.client.connect();
  await world.clock.advance(4_999);
  assert.equal(world.client.state, "connecting");
  await world.clock.advance(1);
  assert.equal(world.client.status.reason?.kind, "timeout");
  assert.ok(!world.socket.isLive);
});

test("a server that does not greet is given up", async () => {
  const world = new World();
  void world.client.connect();
  world.socket.accept();
  await world.clock.advance(15_000);
  assert.equal(world.client.status.reason?.kind, "timeout");
});

test("messages of an old socket are ignored", async () => {
  const world = new World();
  const heard: unknown[] = [];
  world.client.on("said", (data) => heard.push(data));
  void world.client.connect();
  const old = world.socket;
  const late = { open: old.onopen, message: old.onmessage, close: old.onclose };
  await world.clock.advance(5_000);
  await world.retried();
  const statuses = world.statuses.length;
  late.open?.({});
  late.message?.({ data: '{"event":"said","data":1}' });
  late.close?.({ code: 1006, reason: "" });
  old.accept();
  old.hello();
  old.receive("said", { text: "late" });
  old.end(4403);
  assert.deepEqual(heard, []);
  assert.equal(world.statuses.length, statuses);
  assert.equal(world.client.state, "connecting");
});

test("an error before it opened is an end, one after it is not", () => {
  const world = new World();
  void world.client.connect();
  world.socket.onerror?.({});
  assert.equal(world.client.status.reason?.kind, "network");
  world.socket.end(1006);
  assert.equal(world.retry.attempt, 1);
  void world.client.connect();
  world.welcome().onerror?.({});
  assert.equal(world.client.state, "open");
});

test("never are two sockets live at once", async () => {
  const world = new World({ random: Math.random });
  const codes = [1006, 1011, 4429, 1001, 4408];
  void world.client.connect();
  for (let round = 0; round < 200; round += 1) {
    if (world.client.state === "connecting" && round % 3) world.welcome();
    if (round % 5 === 0) void world.client.connect();
    if (round % 7 === 0) world.page.signal(round % 2 ? "online" : "visible");
    if (round % 11 === 0) world.page.signal("offline");
    if (round % 4 === 0 && world.client.state === "open") {
      world.socket.closedWith = null;
      world.socket.end(codes[round % codes.length]!);
    }
    await world.clock.advance(Math.random() * 6_000);
    const live = world.sockets.filter((socket) => socket.isLive);
    assert.ok(live.length <= 1, `round ${round}: ${live.length} sockets`);
  }
});

test("connect called again while connecting dials once", () => {
  const world = new World();
  const first = world.client.connect();
  assert.equal(world.client.connect(), first);
  assert.equal(world.sockets.length, 1);
});

test("connect while waiting retries at once", () => {
  const world = new World();
  world.open().end(1013);
  void world.client.connect();
  assert.equal(world.sockets.length, 2);
  assert.equal(world.client.state, "connecting");
});

test("close ends it for good, with 1000", async () => {
  const world = new World();
  const socket = world.open();
  world.client.close();
  assert.equal(socket.closedWith, 1000);
  assert.deepEqual(world.client.status.reason, { kind: "client", code: null, text: "" });
  await world.clock.advance(100_000);
  assert.equal(world.sockets.length, 1);
  assert.equal(world.clock.timers, 0);
});

test("close while waiting or connecting leaves nothing behind", async () => {
  const world = new World();
  const connected = world.client.connect();
  world.client.close();
  await assert.rejects(connected, ConnectionError);
  world.socket.end();
  world.open().end(1011);
  world.client.close();
  assert.equal(world.clock.timers, 0);
});

test("connect after close dials once the server has answered the close", () => {
  const world = new World();
  const old = world.open();
  world.client.close();
  void world.client.connect();
  assert.equal(world.client.state, "connecting");
  assert.equal(world.sockets.length, 1);
  old.end(1000);
  assert.equal(world.sockets.length, 2);
  world.welcome();
  assert.equal(world.client.state, "open");
  old.end(1000);
  assert.equal(world.client.state, "open");
});

test("connect after close dials at once where the socket is gone, and after two seconds where nothing answers", async () => {
  const world = new World();
  const gone = world.open();
  world.client.close();
  gone.end(1000);
  const silent = world.open();
  assert.equal(world.sockets.length, 2);
  world.client.close();
  void world.client.connect();
  await world.clock.advance(1_999);
  assert.equal(world.sockets.length, 2);
  await world.clock.advance(1);
  assert.equal(world.sockets.length, 3);
  silent.end(1000);
  assert.equal(world.sockets.length, 3);
});

test("however often it is closed and connected, there is one dial", async () => {
  const world = new World();
  const old = world.open();
  for (let round = 0; round < 3; round += 1) {
    world.client.close();
    void world.client.connect();
  }
  old.end(1000);
  await world.clock.advance(2_000);
  assert.equal(world.sockets.length, 2);
  world.client.close();
  assert.equal(world.clock.timers, 0);
});

test("a dial that failed is gone for a connect that follows", () => {
  const world = new World();
  void world.client.connect();
  world.client.close();
  void world.client.connect();
  assert.equal(world.sockets.length, 1);
  world.socket.onerror?.({});
  assert.equal(world.sockets.length, 2);
});

test("a listener of the state may close and connect", () => {
  const world = new World();
  world.client.onState(({ state }) => state === "open" && world.client.close());
  const stop = world.client.onState(({ state }) => state === "closed" && world.client.connect());
  world.open().end(1000);
  assert.equal(world.client.state, "connecting");
  assert.equal(world.sockets.filter((socket) => socket.isLive).length, 1);
  stop();
});

test("a drain's hint is the first delay, whatever the code", async () => {
  for (const code of [1001, 4001, 1012, 1006]) {
    const world = new World();
    const socket = world.open();
    socket.receive("wsrt.closing", { retry_after_ms: 17_000 });
    socket.end(code, code === 1001 ? "Server shutting down" : "");
    assert.equal(world.retry.delayMs, 17_000);
    (await world.retried()).end(1006);
    assert.equal(world.retry.delayMs, 1200);
  }
});

test("a hint does not bring back whom the server does not want", () => {
  const world = new World();
  const socket = world.open();
  socket.receive("wsrt.closing", { retry_after_ms: 5 });
  socket.end(4403, "Forbidden");
  assert.equal(world.client.state, "closed");
});

test("a hint that is none is ignored", () => {
  for (const hint of [-1, "soon", null, undefined]) {
    const world = new World();
    const socket = world.open();
    socket.receive("wsrt.closing", { retry_after_ms: hint });
    socket.end(1001, "Server shutting down");
    assert.equal(world.retry.delayMs, 5200);
  }
});

test("another schema makes it outdated, the same again does not", async () => {
  const world = new World({ schemaHash: "a" });
  world.open({ schema: "b" });
  assert.ok(world.client.outdated && world.client.status.outdated);
  world.socket.end(1006);
  assert.ok(world.client.outdated);
  await world.retried();
  world.welcome({ schema: "a" });
  assert.ok(!world.client.outdated);
});

test("a server that names no schema makes nothing outdated", () => {
  for (const schema of [undefined, null]) {
    const world = new World({ schemaHash: "a" });
    world.open({ schema });
    assert.ok(!world.client.outdated);
  }
});

test("without a hash nothing is outdated", () => {
  const world = new World();
  world.open({ schema: "b" });
  assert.ok(!world.client.outdated);
});

test("a server that does not speak wsrt.v1 is reported, and tried again", () => {
  const world = new World();
  void world.client.connect();
  world.socket.accept("");
  assert.match(world.errors[0]![0], /doesn't support wsrt.v1/);
  assert.equal(world.client.state, "waiting");
  assert.deepEqual(world.socket.sent, []);
});

test("a class that throws closes it for good", async () => {
  const world = new World({
    WebSocket: class {
      constructor() {
        throw new SyntaxError("bad subprotocol");
      }
    } as never,
  });
  await assert.rejects(world.client.connect(), /bad subprotocol/);
  assert.equal(world.client.status.reason?.kind, "invalid");
});

test("without a WebSocket it says what to pass", async () => {
  const world = new World({ WebSocket: undefined as never, environment: { WebSocket: undefined } });
  await assert.rejects(world.client.connect(), /option WebSocket/);
});

test("an invalid frame is reported, and harms nothing", () => {
  const world = new World();
  const socket = world.open();
  for (const data of ["", "{", "null", "[]", '"x"', "{}", '{"event":1}']) socket.onmessage?.({ data });
  socket.onmessage?.({ data: new ArrayBuffer(2) });
  assert.equal(world.errors.length, 7);
  assert.equal(world.client.state, "open");
});

test("a frame that cannot be handled is reported, and harms nothing", () => {
  const world = new World();
  const socket = world.open();
  // No text can be made of it.
  socket.receive("wsrt.error", { code: { toString: 1, valueOf: 1 } });
  assert.match(world.errors[0]!.join(), /ProtocolError.*wsrt.error.*receiving/);
  assert.equal(world.client.state, "open");
});

test("a function gives the URL of each dial", async () => {
  let ticket = 0;
  const world = new World({ url: async () => `ws://test/?ticket=${(ticket += 1)}` });
  void world.client.connect();
  await world.clock.advance(0);
  world.socket.end(1006);
  await world.retried();
  assert.deepEqual(
    world.sockets.map((socket) => socket.url),
    ["ws://test/?ticket=1", "ws://test/?ticket=2"],
  );
});

test("a function that fails is reported and tried again", () => {
  const world = new World({
    url: () => {
      throw new Error("no ticket");
    },
  });
  void world.client.connect();
  assert.equal(world.client.status.reason?.kind, "token");
  assert.match(world.errors[0]![0], /no ticket/);
});

test("a path is one on the host of a page, or of what made a worker out of a Blob", () => {
  assert.equal(socketUrl("/chat/", "https://example.com/a/b?c#d"), "wss://example.com/chat/");
  assert.equal(socketUrl("chat/", "https://example.com/a/b?c#d"), "wss://example.com/a/chat/");
  assert.equal(socketUrl("/chat/", "blob:https://example.com:81/0-0-0"), "wss://example.com:81/chat/");
  for (const here of ["blob:null/0-0-0", "about:blank", "data:text/html,"]) {
    assert.throws(() => socketUrl("/chat/", here), /pass an absolute URL/);
    assert.equal(socketUrl("wss://example.com/", here), "wss://example.com/");
  }
});

test("a worker out of a Blob finds the host of its page", { skip: !("document" in globalThis) }, async () => {
  const worker = new Worker(URL.createObjectURL(new Blob(["postMessage(location.href)"])));
  const href = await new Promise<string>((resolve) => (worker.onmessage = ({ data }) => resolve(data)));
  worker.terminate();
  assert.match(href, /^blob:/);
  assert.equal(socketUrl("/chat/", href), location.origin.replace("http", "ws") + "/chat/");
});

test("where a path leads nowhere it is closed, and says what to pass", { skip: "document" in globalThis }, async () => {
  const world = new World({ url: "/chat/" });
  await assert.rejects(world.client.connect(), /pass an absolute URL/);
  assert.equal(world.client.status.reason?.kind, "invalid");
});

/** URL as React Native has it: without setters, without parts, and with a slash at the end. */
class NativeURL {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url.endsWith("/") ? url : `${url}/`;
  }

  get href(): string {
    return this.#url;
  }

  get hash(): string {
    throw new Error("URL.hash is not implemented");
  }

  get protocol(): string {
    throw new Error("URL.protocol is not implemented");
  }
}

test("an absolute address needs nothing of URL, which React Native has by halves", () => {
  const { URL } = globalThis;
  try {
    Object.assign(globalThis, { URL: NativeURL });
    assert.equal(socketUrl("https://example.com/a?b=c#d", undefined), "wss://example.com/a?b=c");
    assert.equal(socketUrl("ws://example.com", undefined), "ws://example.com");
    assert.equal(socketUrl(new NativeURL("HTTP://example.com/a").href, undefined), "ws://example.com/a/");
  } finally {
    Object.assign(globalThis, { URL });
  }
});

test("bytes are counted as UTF-8 has them", () => {
  for (const text of ["", "a", "é", "€", "😀", "\ud800", "\udc00\ud800", "a\u07ff\u0800\uffff"]) {
    assert.equal(byteLength(text), new TextEncoder().encode(text).length, JSON.stringify(text));
  }
});

test("http becomes ws, and fragments go", () => {
  assert.equal(socketUrl("https://example.com/a?b=c#d"), "wss://example.com/a?b=c");
  assert.equal(socketUrl("http://example.com:8000/"), "ws://example.com:8000/");
  assert.equal(socketUrl("wss://example.com/a"), "wss://example.com/a");
});
