import assert from "node:assert/strict";
import { test } from "node:test";

import { reconnectFor, type Reconnect } from "../../../wsrt/clients/runtime/typescript/reconnect.js";
import { CLOSE_CODES } from "../../../wsrt/clients/runtime/typescript/close_codes.js";
import { World } from "./support.js";

/** What a client with random() = 1 does after its first close; null: nothing. */
const DELAYS: Record<Reconnect, number | null> = { never: null, backoff: 700, spread: 5200, auth: 700, later: 5700 };

for (const [code, fallback, reason, reconnect] of CLOSE_CODES) {
  test(`${code} ${reason}: ${reconnect}`, () => {
    assert.equal(delayAfter(code, reason), DELAYS[reconnect]);
  });

  // Stock Daphne sends no reasons: the first row of a number stands for all.
  if (fallback !== code) {
    test(`${fallback} of stock Daphne: as ${code}`, () => {
      assert.equal(delayAfter(fallback, ""), DELAYS[CLOSE_CODES.find((row) => row[0] === code)![3]]);
    });
  }
}

const OTHERS: [number, Reconnect][] = [
  [1002, "never"],
  [1003, "never"],
  [1010, "never"],
  [1012, "backoff"],
  [1014, "backoff"],
  [3000, "backoff"],
  [3999, "backoff"],
  [4000, "backoff"],
  [4400, "backoff"],
  [4499, "backoff"],
  [4500, "backoff"],
  [4749, "backoff"],
  [4750, "never"],
  [4999, "never"],
];

for (const [code, reconnect] of OTHERS) {
  test(`${code}, which is not in the table: ${reconnect}`, () => {
    assert.equal(reconnectFor(code), reconnect);
    assert.equal(delayAfter(code, "whatever"), DELAYS[reconnect]);
  });
}

for (const code of [1005, 1006, 1015]) {
  test(`${code} is the network`, () => {
    const world = closedWith(code, "");
    assert.equal(world.client.status.reason?.kind, "network");
    assert.equal(world.retry.delayMs, 500);
  });
}

test("a reason of another version falls back on the code", () => {
  assert.equal(reconnectFor(1008, "Something new"), "never");
  assert.equal(reconnectFor(1001, ""), "spread");
});

test("an outdated client backs off from what it is not understood for", () => {
  for (const code of [1007, 1008, 4007, 4008]) {
    const world = new World({ schemaHash: "old" });
    world.open({ schema: "new" }).end(code, "Unknown event");
    assert.equal(world.retry.delayMs, 700);
  }
});

test("an outdated client stays away from all the rest", () => {
  const world = new World({ schemaHash: "old" });
  world.open({ schema: "new" }).end(1009, "Message too large");
  assert.equal(world.client.state, "closed");
});

test("a terminal close says why, leaves no timer, and lets go of the page", () => {
  const world = closedWith(4403, "Forbidden");
  assert.deepEqual(world.client.status.reason, { kind: "server", code: 4403, text: "Forbidden" });
  assert.equal(world.clock.timers, 0);
  assert.equal(world.page.listeners.size, 0);
});

test("connect starts over after a terminal close", () => {
  const world = closedWith(4403, "Forbidden");
  world.open();
  assert.equal(world.client.state, "open");
});

function closedWith(code: number, reason: string): World {
  const world = new World({ getToken: () => "token", token: "first" });
  world.open().end(code, reason);
  return world;
}

function delayAfter(code: number, reason: string): number | null {
  const { state, retry } = closedWith(code, reason).client.status;
  assert.equal(state, retry === null ? "closed" : "waiting");
  return retry === null ? null : retry.delayMs;
}
