import assert from "node:assert/strict";
import { test } from "node:test";

import { historyFrom, type HistoryPage } from "../../../wsrt/clients/runtime/typescript/history.js";
import { settle, World, type FakeSocket, type WorldOptions } from "./support.js";

/** A client, and all that it says of one room, in its order. */
function watching(options: WorldOptions = {}): { world: World; log: string[] } {
  const world = new World(options);
  const log: string[] = [];
  world.client.on("said", (data, { offset }) => log.push(`${data}@${offset}`));
  world.client.onRoom((_, membership) => log.push(membership ? (membership.joined ? "joined" : "lost") : "left"));
  world.client.onRecovered((_, { recovered, count, reason }) => log.push(recovered ? `recovered ${count}` : `${reason}`));
  world.client.onForgotten((_, { epoch, offset }) => log.push(`forgotten ${epoch}:${offset}`));
  return { world, log };
}

function joined(socket: FakeSocket, data: object = {}): void {
  socket.receive("wsrt.joined", { room: "lobby", epoch: "e1", offset: 5, ...data });
}

function said(socket: FakeSocket, offset: number, epoch = "e1"): void {
  socket.receive("said", offset, { room: "lobby", epoch, offset });
}

function position(world: World): unknown[] {
  const room = world.client.rooms.get("lobby");
  return [room?.epoch, room?.offset];
}

/** Lose the connection and open the next one. Return its socket and what it claims. */
async function reopened(world: World): Promise<[FakeSocket, unknown]> {
  world.socket.end(1006);
  const socket = await world.retried();
  world.welcome();
  return [socket, socket.sent[0].data];
}

/** The client was joined at 5, is away, and back. */
async function back(options: WorldOptions = {}): Promise<{ world: World; log: string[]; socket: FakeSocket }> {
  const { world, log } = watching(options);
  joined(world.open());
  const [socket] = await reopened(world);
  log.length = 0;
  return { world, log, socket };
}

test("the end of a recovery is told after the last missed event and before the next one", async () => {
  const { world, log, socket } = await back();
  joined(socket, { recovered: true, offset: 7, count: 2 });
  assert.equal(world.client.rooms.get("lobby")?.recovering, true);
  said(socket, 6);
  assert.deepEqual(log, ["joined", "6@6"]);
  said(socket, 7);
  said(socket, 8);
  assert.deepEqual(log, ["joined", "6@6", "7@7", "recovered 2", "8@8"]);
  assert.equal(world.client.rooms.get("lobby")?.recovering, false);
  assert.equal(world.client.rooms.get("lobby")?.count, 2);
});

test("a second recovery without traffic repeats nothing", async () => {
  const { world, log, socket } = await back();
  joined(socket, { recovered: true, offset: 6, count: 1 });
  said(socket, 6);
  for (let turn = 0; turn < 2; turn += 1) {
    const [next, claim] = await reopened(world);
    assert.deepEqual(claim, { lobby: ["e1", 6] });
    joined(next, { recovered: true, offset: 6, count: 0 });
  }
  assert.deepEqual(log, ["joined", "6@6", "recovered 1", ...["lost", "joined", "recovered 0"], ...["lost", "joined", "recovered 0"]]);
});

test("an invalidated client that reconnects is told no", async () => {
  const { world, log, socket } = await back();
  joined(socket, { recovered: false, reason: "epoch", epoch: "e2", offset: 1 });
  said(socket, 2, "e2");
  assert.deepEqual(log, ["joined", "epoch", "2@2"]);
  const [next, claim] = await reopened(world);
  assert.deepEqual(claim, { lobby: ["e2", 2] });
  joined(next, { recovered: false, reason: "epoch", epoch: "e3", offset: 0 });
  assert.deepEqual(log.slice(3), ["lost", "joined", "epoch"]);
});

test("a history that is lost while connected is told, and the position begins again", () => {
  const { world, log } = watching();
  joined(world.open());
  said(world.socket, 6);
  joined(world.socket, { recovered: false, reason: "epoch", epoch: "e2", offset: 0 });
  for (const offset of [1, 1, 2]) said(world.socket, offset, "e2");
  assert.deepEqual(log, ["joined", "6@6", "joined", "epoch", "1@1", "2@2"]);
  assert.deepEqual(position(world), ["e2", 2]);
});

test("the epoch of the first publication is learnt", async () => {
  const { world } = watching();
  world.open().receive("wsrt.joined", { room: "lobby" });
  said(world.socket, 1);
  said(world.socket, 1);
  const [, claim] = await reopened(world);
  assert.deepEqual(claim, { lobby: ["e1", 1] });
});

test("an offset without an epoch never replaces a position, nor an epoch without an offset", async () => {
  const { world, log } = watching();
  joined(world.open());
  for (const half of [{ offset: 9 }, { epoch: "e2" }, { epoch: 7, offset: 9 }, { epoch: "e1", offset: "9" }]) {
    world.socket.receive("said", "half", { room: "lobby", ...half });
    world.socket.receive("wsrt.joined", { room: "lobby", ...half });
    assert.deepEqual(position(world), ["e1", 5]);
  }
  assert.equal(log.filter((line) => line === "half@null").length, 4);
});

test("offsets that numbers cannot hold are none", () => {
  const { world, log } = watching();
  joined(world.open());
  for (const offset of ["1e30", "-1", "1.5", "9007199254740992", "true", "[6]"]) {
    const text = `{"event":"said","data":1,"room":"lobby","epoch":"e1","offset":${offset}}`;
    world.socket.onmessage?.({ data: text });
    assert.deepEqual(position(world), ["e1", 5], offset);
  }
  assert.deepEqual(log, ["joined", ...Array(6).fill("1@null")]);
});

test("a replay with fewer events than announced ends with the next publication", async () => {
  const { world, log, socket } = await back();
  joined(socket, { recovered: true, offset: 8, count: 3 });
  said(socket, 6);
  said(socket, 9);
  assert.deepEqual(log, ["joined", "6@6", "recovered 3", "9@9"]);
  assert.deepEqual(position(world), ["e1", 9]);
});

test("the position ends where the server says, also if the last publications were taken back", async () => {
  const { world, socket } = await back();
  joined(socket, { recovered: true, offset: 9, count: 1 });
  said(socket, 6);
  assert.deepEqual(position(world), ["e1", 9]);
});

test("a replay ends at its last publication, also if others were duplicates", async () => {
  const { world, log, socket } = await back();
  joined(socket, { recovered: true, offset: 7, count: 2 });
  world.client.setPosition("lobby", { epoch: "e1", offset: 6 });
  for (const offset of [6, 7]) said(socket, offset);
  assert.deepEqual(log, ["joined", "7@7", "recovered 2"]);
});

test("a room that is joined once more without a word on recovery begins there", () => {
  const { world, log } = watching();
  joined(world.open());
  joined(world.socket, { offset: 9 });
  assert.deepEqual(log, ["joined", "joined"]);
  assert.deepEqual(position(world), ["e1", 9]);
});

test("a connection that is lost during a replay claims from where it has come", async () => {
  const { world, log, socket } = await back();
  joined(socket, { recovered: true, offset: 8, count: 3 });
  said(socket, 6);
  const [next, claim] = await reopened(world);
  assert.deepEqual(claim, { lobby: ["e1", 6] });
  joined(next, { recovered: true, offset: 8, count: 2 });
  for (const offset of [7, 8]) said(next, offset);
  assert.deepEqual(log, ["joined", "6@6", "lost", "joined", "7@7", "8@8", "recovered 2"]);
});

test("values are delivered although the position is higher, and don't move it back", async () => {
  const { world, log } = watching();
  joined(world.open(), { values: 2 });
  for (const offset of [2, 4, 4, 6]) said(world.socket, offset);
  assert.deepEqual(log, ["joined", "2@2", "4@4", "6@6"]);
  assert.deepEqual(position(world), ["e1", 6]);
});

test("values that were not all received are asked for again", async () => {
  const { world, log } = watching();
  joined(world.open(), { values: 2 });
  said(world.socket, 2);
  const [next, claim] = await reopened(world);
  assert.deepEqual(claim, {});
  joined(next, { values: 2 });
  for (const offset of [2, 4]) said(next, offset);
  assert.deepEqual(log, ["joined", "2@2", "lost", "joined", "2@2", "4@4"]);
  assert.deepEqual(position(world), ["e1", 5]);
});

test("that events are missing is told before values arrive", async () => {
  const { world, log, socket } = await back();
  joined(socket, { recovered: false, reason: "trimmed", offset: 50, values: 1 });
  said(socket, 3);
  said(socket, 51);
  assert.deepEqual(log, ["joined", "trimmed", "3@3", "51@51"]);
  assert.equal(world.client.rooms.get("lobby")?.reason, "trimmed");
});

test("a publication that was taken back is told by its position", () => {
  const { world, log } = watching();
  joined(world.open());
  world.socket.receive("wsrt.forgotten", { room: "lobby", epoch: "e1", offset: 4 });
  for (const broken of [{ offset: 4 }, { epoch: "e1" }, { room: 7, epoch: "e1", offset: 4 }]) {
    world.socket.receive("wsrt.forgotten", { room: "lobby", ...broken });
  }
  assert.deepEqual(log, ["joined", "forgotten e1:4"]);
});

// Positions that the application knows.

test("a page that was rendered first claims its position", () => {
  const { world, log } = watching();
  world.client.setPosition("lobby", { epoch: "e1", offset: 3 });
  const socket = world.open();
  assert.deepEqual(socket.sent[0], { event: "wsrt.resume", data: { lobby: ["e1", 3] } });
  joined(socket, { recovered: true, count: 2 });
  for (const offset of [3, 4, 5]) said(socket, offset);
  assert.deepEqual(log, ["joined", "4@4", "5@5", "recovered 2"]);
});

test("a position that came too late for the first frame is told", () => {
  const { world, log } = watching();
  const socket = world.open();
  world.client.setPosition("lobby", { epoch: "e1", offset: 3 });
  joined(socket);
  assert.deepEqual(log, ["joined", "late"]);
  assert.deepEqual(position(world), ["e1", 5]);
});

test("a position that came too late, but where nothing was missed, is as good", () => {
  const { world, log } = watching();
  const socket = world.open();
  world.client.setPosition("lobby", { epoch: "e1", offset: 5 });
  joined(socket);
  assert.deepEqual(log, ["joined", "recovered 0"]);
});

test("a position in a joined room only moves forwards", () => {
  const { world } = watching();
  joined(world.open());
  world.client.setPosition("lobby", { epoch: "e1", offset: 3 });
  assert.deepEqual(position(world), ["e1", 5]);
  world.client.setPosition("lobby", { epoch: "e1", offset: 8 });
  assert.deepEqual(position(world), ["e1", 8]);
});

test("what isn't a position is refused, with what to pass", () => {
  const { world } = watching();
  for (const wrong of [null, undefined, 7, '{"epoch": "e1", "offset": 3}', { offset: 3 }, { epoch: "e1", offset: -1 }]) {
    const message = `setPosition() takes { epoch: string, offset: integer }, not ${JSON.stringify(wrong)}`;
    const isClear = (error: Error) => error instanceof TypeError && error.message === message;
    assert.throws(() => world.client.setPosition("lobby", wrong as never), isClear);
  }
  assert.equal(world.client.rooms.size, 0);
});

test("at most 1,000 positions are claimed: of subscriptions, and of rooms that were joined last", async () => {
  const world = new World();
  world.client.setPosition("old", { epoch: "e1", offset: 1 });
  const socket = world.open();
  world.client.subscribe("mine");
  for (const room of ["mine", ...Array.from({ length: 1100 }, (_, index) => `r${index}`)]) {
    joined(socket, { room });
  }
  const [, claim] = await reopened(world);
  const claimed = Object.keys(claim as object);
  assert.equal(claimed.length, 1000);
  assert.ok(["mine", "r1099", "r101"].every((room) => claimed.includes(room)));
  assert.ok(!["old", "r100"].some((room) => claimed.includes(room)));
});

test("no more positions are claimed than the server takes in one frame", async () => {
  const world = new World();
  const socket = world.open({ max_payload: 500 });
  const name = (index: number) => `"ü${"r".repeat(40)}${index}`;
  for (let index = 0; index < 30; index += 1) joined(socket, { room: name(index) });
  world.socket.end(1006);
  const next = await world.retried();
  const sent: string[] = [];
  next.send = (text: string) => void sent.push(text);
  next.accept();
  const claimed = Object.keys(JSON.parse(sent[0]!).data);
  assert.ok(new TextEncoder().encode(sent[0]).length <= 500);
  assert.ok(claimed.length >= 4);
  assert.ok(claimed.includes(name(29)));
});

// Fetching.

function page(offsets: number[], over: Partial<HistoryPage> = {}): HistoryPage {
  const events = offsets.map((offset) => ({ event: "said", data: offset, epoch: "e1", offset }));
  return { epoch: "e1", offset: 9, events, has_more: false, gap: null, ...over };
}

/** A source that answers when a test says so. */
function slowly(): { source: (room: string, since: object) => Promise<HistoryPage>; asked: unknown[]; answers: any[] } {
  const [asked, answers]: [unknown[], any[]] = [[], []];
  const source = (room: string, since: object) => {
    asked.push([room, since]);
    return new Promise<HistoryPage>((resolve, reject) => answers.push({ resolve, reject }));
  };
  return { source, asked, answers };
}

async function tooMany(options: WorldOptions = {}) {
  const { source, asked, answers } = slowly();
  const away = await back({ history: historyFrom(source), ...options });
  joined(away.socket, { recovered: false, reason: "too_many", offset: 9 });
  return { ...away, asked, answers };
}

test("too many events are fetched page by page, and what is new waits for them", async () => {
  const { world, log, socket, asked, answers } = await tooMany();
  assert.equal(world.client.rooms.get("lobby")?.recovering, true);
  said(socket, 10);
  socket.receive("said", "mark", { room: "lobby" });
  socket.receive("wsrt.forgotten", { room: "lobby", epoch: "e1", offset: 6 });
  socket.receive("said", "elsewhere", { room: "tea" });
  answers[0].resolve(page([6, 7], { has_more: true }));
  await settle();
  answers[1].resolve(page([8, 9, 10], { offset: 10 }));
  await settle();
  assert.deepEqual(asked, [
    ["lobby", { epoch: "e1", offset: 5 }],
    ["lobby", { epoch: "e1", offset: 7 }],
  ]);
  const fetched = ["6@6", "7@7", "8@8", "9@9", "10@10", "recovered 5"];
  assert.deepEqual(log, ["joined", "elsewhere@null", ...fetched, "mark@null", "forgotten e1:6"]);
  assert.deepEqual(world.client.rooms.get("lobby"), {
    joined: true,
    epoch: "e1",
    offset: 10,
    recovered: true,
    reason: null,
    count: 5,
    recovering: false,
    valuesMissing: false,
  });
});

test("a gap in what is fetched is told, and what is new follows", async () => {
  const { world, log, socket, answers } = await tooMany();
  said(socket, 10);
  answers[0].resolve(page([8, 9], { gap: "trimmed" }));
  await settle();
  assert.deepEqual(log, ["joined", "trimmed", "10@10"]);
  assert.deepEqual(position(world), ["e1", 10]);
});

for (const [what, answer] of [
  ["a request that fails", (answers: any) => answers.reject(new Error("offline"))],
  ["an answer that is no page", (answers: any) => answers.resolve("login")],
  ["a page without positions", (answers: any) => answers.resolve({ ...page([]), events: [{ event: "said", data: 6 }] })],
  ["a page that doesn't go on", (answers: any) => answers.resolve(page([], { has_more: true }))],
  ["a page that ends too early", (answers: any) => answers.resolve(page([6], { offset: 6 }))],
] as const) {
  test(`${what} is an error, and the reason stays`, async () => {
    const { world, log, socket, answers } = await tooMany();
    said(socket, 10);
    answer(answers[0]);
    await settle();
    assert.deepEqual(log.filter((line) => line !== "6@6"), ["joined", "too_many", "10@10"]);
    assert.equal(world.errors.length, 1);
  });
}

test("an answer that never comes is given up", async () => {
  const { world, log } = await tooMany();
  await world.clock.advance(10_000);
  assert.deepEqual(log.slice(0, 2), ["joined", "too_many"]);
  assert.match(world.errors[0]![0], /TimeoutError/);
});

test("another epoch in what is fetched is told", async () => {
  const { log, answers } = await tooMany();
  answers[0].resolve({ ...page([]), epoch: "e2" });
  await settle();
  assert.deepEqual(log, ["joined", "epoch"]);
});

test("no more than 1,000 frames wait", async () => {
  const { world, log, socket, answers } = await tooMany();
  for (let offset = 10; offset <= 1010; offset += 1) said(socket, offset);
  assert.deepEqual(log.slice(0, 3), ["joined", "too_many", "10@10"]);
  assert.equal(log.length, 1003);
  answers[0].resolve(page([6]));
  await settle();
  assert.equal(log.length, 1003);
  assert.deepEqual(position(world), ["e1", 1010]);
});

test("a connection that is lost while fetching begins again where it has come", async () => {
  const { world, log, answers, asked } = await tooMany();
  answers[0].resolve(page([6, 7], { has_more: true }));
  await settle();
  const [next, claim] = await reopened(world);
  assert.deepEqual(claim, { lobby: ["e1", 7] });
  answers[1].resolve(page([8, 9]));
  await settle();
  joined(next, { recovered: false, reason: "too_many", offset: 9 });
  answers[2].resolve(page([8, 9]));
  await settle();
  assert.deepEqual(asked[2], ["lobby", { epoch: "e1", offset: 7 }]);
  assert.deepEqual(log, ["joined", "6@6", "7@7", "lost", "joined", "8@8", "9@9", "recovered 2"]);
});

test("a position that came too late is fetched from", async () => {
  const { source, asked, answers } = slowly();
  const { world, log } = watching({ history: historyFrom(source) });
  const socket = world.open();
  world.client.setPosition("lobby", { epoch: "e1", offset: 3 });
  joined(socket);
  answers[0].resolve(page([4, 5], { offset: 5 }));
  await settle();
  assert.deepEqual(asked, [["lobby", { epoch: "e1", offset: 3 }]]);
  assert.deepEqual(log, ["joined", "4@4", "5@5", "recovered 2"]);
});

test("what the history no longer has is not fetched", async () => {
  const { source, asked } = slowly();
  const { log, socket } = await back({ history: historyFrom(source) });
  joined(socket, { recovered: false, reason: "trimmed", offset: 900 });
  joined(socket, { recovered: false, reason: "too_many", epoch: "e2", offset: 900 });
  assert.deepEqual([log, asked], [["joined", "trimmed", "joined", "too_many"], []]);
});

test("a client that a listener closes while fetched events are delivered hears no more", async () => {
  const { world, log, socket, answers } = await tooMany();
  world.client.on("said", (data) => data === 6 && world.client.close());
  said(socket, 10);
  answers[0].resolve(page([6, 7]));
  await settle();
  assert.deepEqual(log, ["joined", "6@6", "lost"]);
});

test("a page of a URL is requested with room and position", async () => {
  const requests: any[] = [];
  const answers = [
    { status: 200, json: async () => page([6, 7, 8, 9]) },
    { status: 403, json: async () => ({}) },
  ];
  const fetch = async (url: string, request: object) => {
    requests.push([url, request]);
    return answers.shift()!;
  };
  const history = historyFrom("/history/?v=1", async () => ({ headers: { Authorization: "x" }, credentials: "omit" }));
  const { world, log, socket } = await back({ history, environment: { fetch: fetch as never } });
  joined(socket, { recovered: false, reason: "too_many", offset: 9 });
  await settle();
  await settle();
  const sent = { method: "GET", headers: { Accept: "application/json", Authorization: "x" } };
  assert.deepEqual(requests, [
    ["/history/?v=1&room=lobby&since=e1%3A5", { ...sent, credentials: "omit", redirect: "error" }],
  ]);
  assert.equal(log.at(-1), "recovered 4");
  joined(socket, { recovered: false, reason: "too_many", offset: 99 });
  await settle();
  await settle();
  assert.equal(log.at(-1), "too_many");
  assert.match(world.errors[0]![0], /403/);
});
