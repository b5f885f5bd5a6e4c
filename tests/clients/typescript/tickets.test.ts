import assert from "node:assert/strict";
import { test } from "node:test";

import type { Fetch } from "../../../wsrt/clients/runtime/typescript/environment.js";
import { ConnectionError, UnauthorizedError } from "../../../wsrt/clients/runtime/typescript/errors.js";
import { World, type WorldOptions } from "./support.js";

type Request = Parameters<Fetch>[1] & { url: string };

/** A client with tickets, and the requests that it makes; `answer` is what the server says. */
function withTickets(options: Partial<WorldOptions> = {}, csrf: string | null = null) {
  const requests: Request[] = [];
  const office = {
    requests,
    retryAfter: null as string | null,
    answer: (): { status: number; body: unknown } => ({ status: 200, body: { ticket: `t${requests.length}` } }),
  };
  const fetch: Fetch = async (url, request) => {
    requests.push({ url, ...request });
    const { status, body } = office.answer();
    return { status, headers: { get: () => office.retryAfter }, json: async () => body };
  };
  const environment = { fetch, csrfToken: () => csrf };
  return { office, world: new World({ ticketUrl: "/ticket/", environment, ...options }) };
}

test("a ticket is requested for the path before each connection", async () => {
  const { office, world } = withTickets({ url: () => Promise.resolve("ws://test/chat/a%20b/?x=1") }, "c".repeat(32));
  void world.client.connect();
  await world.clock.advance(0);
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "ticket.t1"]);
  assert.deepEqual(office.requests, [
    {
      url: "/ticket/",
      method: "POST",
      body: "path=%2Fchat%2Fa%2520b%2F",
      headers: { "Content-Type": "application/x-www-form-urlencoded", "X-CSRFToken": "c".repeat(32) },
      credentials: "same-origin",
      redirect: "error",
    },
  ]);
  world.welcome();
  world.socket.end(1006);
  await world.retried();
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "ticket.t2"]);
  world.welcome();
  world.socket.end(4401, "Credentials expired");
  await world.retried();
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "ticket.t3"]);
});

test("a request has the headers and credentials of the application", async () => {
  let number = 0;
  const { office, world } = withTickets({
    url: "ws://test",
    ticketRequest: async () => ({ headers: { Authorization: `Bearer ${(number += 1)}` }, credentials: "include" }),
  });
  void world.client.connect();
  await world.clock.advance(0);
  const { body, headers, credentials } = office.requests[0]!;
  assert.equal(body, "path=%2F");
  assert.equal(headers["Authorization"], "Bearer 1");
  assert.equal(headers["X-CSRFToken"], undefined);
  assert.equal(credentials, "include");
  const plain = withTickets({ ticketRequest: { headers: { "X-CSRFToken": "own" } } }, "cookie");
  void plain.world.client.connect();
  await plain.world.clock.advance(0);
  assert.equal(plain.office.requests[0]!.headers["X-CSRFToken"], "own");
});

test("a client whose user gets no ticket stays closed", async () => {
  for (const status of [401, 403]) {
    const { office, world } = withTickets();
    office.answer = () => ({ status, body: null });
    await assert.rejects(world.client.connect(), UnauthorizedError);
    assert.deepEqual(world.client.status.reason, {
      kind: "unauthorized",
      code: null,
      text: `no ticket: the server answered ${status}`,
    });
    assert.equal(world.sockets.length, 0);
  }
});

test("a request that fails is repeated later", async () => {
  const answers = [
    { status: 500, body: null },
    { status: 200, body: {} },
    { status: 200, body: { ticket: 7 } },
    { status: 204, body: null },
  ];
  const { office, world } = withTickets();
  const good = office.answer;
  office.answer = () => answers.shift() ?? good();
  void world.client.connect();
  for (let number = 1; number <= 4; number += 1) {
    await world.clock.advance(0);
    assert.equal(world.client.status.reason?.kind, "token");
    await world.clock.advance(world.retry.delayMs);
  }
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "ticket.t5"]);
  assert.equal(world.errors.length, 4);
  assert.ok(world.errors.every(([text]) => text.includes("no ticket")));
});

test("the server says when the next ticket may be requested, and the page doesn't come earlier", async () => {
  const { office, world } = withTickets();
  const good = office.answer;
  office.answer = () => ({ status: 429, body: null });
  office.retryAfter = "30";
  void world.client.connect();
  await world.clock.advance(0);
  assert.equal(world.retry.delayMs, 30_000 + 700);
  world.page.signal("online");
  await world.clock.advance(30_000);
  assert.equal(office.requests.length, 1);
  office.answer = good;
  await world.clock.advance(2000);
  assert.deepEqual(world.socket.protocols, ["wsrt.v1", "ticket.t2"]);
});

test("a ticket that comes too late opens nothing", async () => {
  let resolve = (_: string) => {};
  const { world } = withTickets({
    ticketRequest: () => new Promise((done) => (resolve = () => done({}))),
  });
  void world.client.connect();
  await world.clock.advance(5000);
  assert.equal(world.client.status.reason?.kind, "token");
  resolve("");
  await world.clock.advance(0);
  assert.equal(world.sockets.length, 0);
  world.client.close();
});

test("a bad URL is told without a request", async () => {
  const { office, world } = withTickets({ url: "ws://" });
  await assert.rejects(world.client.connect(), ConnectionError);
  assert.equal(world.client.status.reason?.kind, "invalid");
  assert.equal(office.requests.length, 0);
});

test("tickets and tokens exclude each other", () => {
  const wrong: WorldOptions[] = [{ token: "t" }, { getToken: () => "t" }];
  for (const options of wrong) assert.throws(() => withTickets(options), TypeError);
});
