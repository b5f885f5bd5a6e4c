import assert from "node:assert/strict";
import { test } from "node:test";

import { World, type FakeSocket } from "./support.js";

function joined(socket: FakeSocket, data: object = {}): void {
  socket.receive("wsrt.joined", { room: "lobby", epoch: "e1", offset: 5, ...data });
}

function said(socket: FakeSocket, offset: number, epoch = "e1"): void {
  socket.receive("said", offset, { room: "lobby", epoch, offset });
}

function listening(): { world: World; heard: unknown[] } {
  const world = new World();
  const heard: unknown[] = [];
  world.client.on("said", (data) => heard.push(data));
  return { world, heard };
}

test("rooms are known by what the server says", () => {
  const world = new World();
  const told: unknown[] = [];
  world.client.onRoom((room, membership) => told.push([room, membership?.joined ?? null]));
  const socket = world.open();
  socket.receive("wsrt.joined", { room: "lobby" });
  assert.deepEqual(world.client.rooms.get("lobby"), {
    joined: true,
    epoch: null,
    offset: null,
    recovered: null,
    reason: null,
    count: 0,
    recovering: false,
    valuesMissing: false,
  });
  socket.receive("wsrt.left", { room: "lobby" });
  assert.equal(world.client.rooms.size, 0);
  assert.deepEqual(told, [
    ["lobby", true],
    ["lobby", null],
  ]);
});

test("positions move with publications, and are claimed on the next connection", async () => {
  const { world } = listening();
  const socket = world.open();
  joined(socket);
  socket.receive("wsrt.joined", { room: "no history" });
  said(socket, 6);
  said(socket, 7);
  socket.end(1006);
  assert.equal(world.client.rooms.get("lobby")?.joined, false);
  (await world.retried()).accept();
  assert.deepEqual(world.socket.sent, [{ event: "wsrt.resume", data: { lobby: ["e1", 7] } }]);
});

test("duplicates are dropped by offset", () => {
  const { world, heard } = listening();
  const socket = world.open();
  joined(socket);
  for (const offset of [5, 6, 6, 7, 3, 8]) said(socket, offset);
  assert.deepEqual(heard, [6, 7, 8]);
});

test("what was recovered is not taken for duplicates", async () => {
  const { world, heard } = listening();
  joined(world.open());
  said(world.socket, 6);
  world.socket.end(1006);
  await world.retried();
  const socket = world.welcome();
  joined(socket, { recovered: true, offset: 9, count: 3 });
  for (const offset of [6, 7, 8, 9, 10]) said(socket, offset);
  assert.deepEqual(heard, [6, 7, 8, 9, 10]);
  assert.equal(world.client.rooms.get("lobby")?.recovered, true);
});

test("what was not recovered begins where the server says", async () => {
  const { world, heard } = listening();
  joined(world.open());
  world.socket.end(1006);
  await world.retried();
  const socket = world.welcome();
  joined(socket, { recovered: false, reason: "epoch", epoch: "e2", offset: 2 });
  for (const offset of [2, 3]) said(socket, offset, "e2");
  assert.deepEqual(heard, [3]);
  assert.deepEqual(world.client.rooms.get("lobby"), {
    joined: true,
    epoch: "e2",
    offset: 3,
    recovered: false,
    reason: "epoch",
    count: 0,
    recovering: false,
    valuesMissing: false,
  });
});

test("a new epoch starts over", () => {
  const { world, heard } = listening();
  const socket = world.open();
  joined(socket);
  said(socket, 6);
  said(socket, 1, "e2");
  said(socket, 2, "e2");
  assert.deepEqual(heard, [6, 1, 2]);
});

test("a room that was left is not claimed", async () => {
  const { world } = listening();
  joined(world.open());
  world.socket.receive("wsrt.left", { room: "lobby" });
  said(world.socket, 6);
  world.socket.end(1006);
  (await world.retried()).accept();
  assert.deepEqual(world.socket.sent, [{ event: "wsrt.resume", data: {} }]);
});

test("rooms and members by names of objects' own properties change no prototype", async () => {
  const world = new World();
  const socket = world.open();
  for (const room of ["__proto__", "constructor"]) {
    joined(socket, { room });
    socket.onmessage?.({
      data: `{"event":"wsrt.presence","data":{"room":"${room}","version":1,"__proto__":{"count":7},
        "members":[{"user_id":"__proto__","connections":1,"data":{"__proto__":{"isAdmin":true}}}]}}`,
    });
  }
  assert.deepEqual([...world.client.rooms.keys()], ["__proto__", "constructor"]);
  assert.deepEqual([...world.client.presence.get("__proto__")!.members!.keys()], ["__proto__"]);
  assert.equal(({} as { isAdmin?: boolean }).isAdmin, undefined);
  socket.end(1006);
  const sent: string[] = [];
  const next = await world.retried();
  next.send = (text: string) => void sent.push(text);
  next.accept();
  assert.equal(sent[0], '{"event":"wsrt.resume","data":{"constructor":["e1",5],"__proto__":["e1",5]}}');
});

// Presence.

const ada = { user_id: "ada", connections: 1, data: { name: "Ada" } };
const bob = { user_id: "bob", connections: 2, data: null };

function presence(socket: FakeSocket, version: number, data: object): void {
  socket.receive("wsrt.presence", { room: "lobby", version, ...data });
}

test("presence follows snapshot and differences", () => {
  const world = new World();
  const told: unknown[] = [];
  world.client.onPresence((room, view) => told.push([room, view?.count ?? null]));
  const socket = world.open();
  presence(socket, 1, { members: [ada] });
  presence(socket, 2, { joined: [bob, { user_id: null, connections: 3, data: null }] });
  presence(socket, 3, { left: [ada], changed: [{ ...bob, connections: 1 }] });
  const view = world.client.presence.get("lobby")!;
  assert.deepEqual([...view.members!.keys()], ["bob", null]);
  assert.equal(view.members!.get("bob")!.connections, 1);
  assert.equal(view.version, 3);
  assert.deepEqual(told, [
    ["lobby", 1],
    ["lobby", 5],
    ["lobby", 4],
  ]);
});

test("each view is a new one, and the old ones stay as they were", () => {
  const world = new World();
  const socket = world.open();
  presence(socket, 1, { members: [ada] });
  const before = world.client.presence.get("lobby")!;
  presence(socket, 2, { joined: [bob] });
  assert.equal(before.members!.size, 1);
  assert.notEqual(world.client.presence.get("lobby"), before);
});

test("a crowd is a count, until a list follows", () => {
  const world = new World();
  const socket = world.open();
  presence(socket, 1, { members: [ada] });
  presence(socket, 2, { count: 1500 });
  presence(socket, 3, { joined: [bob] });
  assert.deepEqual(world.client.presence.get("lobby"), { version: 2, members: null, count: 1500 });
  presence(socket, 4, { members: [bob] });
  assert.equal(world.client.presence.get("lobby")?.members?.size, 1);
});

test("a difference to what is not known is ignored", () => {
  const world = new World();
  presence(world.open(), 2, { joined: [bob] });
  assert.equal(world.client.presence.size, 0);
});

test("a room that is left has no presence", () => {
  const world = new World();
  const socket = world.open();
  presence(socket, 1, { members: [ada] });
  socket.receive("wsrt.left", { room: "lobby" });
  assert.equal(world.client.presence.size, 0);
});

for (const [how, end] of [
  ["the loss of a connection", (world: World) => world.socket.end(1006)],
  ["close", (world: World) => world.client.close()],
] as const) {
  test(`${how} is the end of all memberships and all presence, and listeners are told`, () => {
    const world = new World();
    const told: unknown[] = [];
    const socket = world.open();
    joined(socket, { recovered: false, reason: "trimmed" });
    for (const room of ["lobby", "tea"]) socket.receive("wsrt.presence", { room, version: 1, members: [ada] });
    world.client.onRoom((room, membership) => told.push([room, membership]));
    world.client.onPresence((room, view) => told.push([room, view, world.client.presence.size]));
    end(world);
    const nothing = { recovered: null, reason: null, count: 0, recovering: false, valuesMissing: false };
    const membership = { joined: false, epoch: "e1", offset: 5, ...nothing };
    assert.deepEqual(told, [
      ["lobby", membership],
      ["lobby", null, 0],
      ["tea", null, 0],
    ]);
    assert.deepEqual([...world.client.rooms], [["lobby", membership]]);
    world.client.close();
    assert.equal(told.length, 3);
  });
}

test("a listener of the loss may close and connect", () => {
  const world = new World();
  joined(world.open());
  world.client.onRoom((_, membership) => {
    if (membership?.joined) return;
    assert.equal(world.client.state, "waiting");
    world.client.close();
    void world.client.connect();
  });
  world.socket.end(1006);
  assert.equal(world.client.state, "connecting");
  assert.equal(world.clock.timers, 1); // the dial
});

test("after a loss a difference is one to what is not known", async () => {
  const world = new World();
  presence(world.open(), 1, { members: [ada] });
  world.socket.end(1006);
  await world.retried();
  presence(world.welcome(), 2, { joined: [bob] });
  assert.equal(world.client.presence.size, 0);
});

test("a presence that is none is reported, and changes nothing", () => {
  const world = new World();
  const socket = world.open();
  presence(socket, 1, { members: [ada] });
  world.client.onPresence(() => assert.fail());
  const wrong = [
    { members: [null, 1] },
    { members: [{ x: 1 }] },
    { members: [bob, { user_id: 1, connections: 1, data: null }] },
    { members: [{ user_id: "bob", data: null }] },
    { members: 5 },
    { joined: [bob], left: "ada" },
    { joined: [bob], version: "2" },
    { count: 3, version: null },
  ];
  for (const data of wrong) presence(socket, 2, data);
  assert.deepEqual([...world.client.presence.get("lobby")!.members!.values()], [ada]);
  assert.equal(world.errors.length, wrong.length);
  assert.ok(world.errors.every(([error, where]) => error.startsWith("ProtocolError") && where === "receiving"));
});
