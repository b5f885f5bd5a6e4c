import assert from "node:assert/strict";
import { test } from "node:test";

import { pathOf } from "../../../wsrt/clients/runtime/typescript/index.js";

const refusal = (name: string, text: string) => (error: Error) => error.name === name && error.message.includes(text);

test("a path has its parameters percent-encoded", () => {
  assert.equal(pathOf(["/ws/{room}/{id}/"], { id: 7, room: "a/b ?#%ü." }), "/ws/a%2Fb%20%3F%23%25%C3%BC./7/");
  assert.equal(pathOf(["/ws/"]), "/ws/");
  // The value of a parameter is neither a pattern nor a replacement.
  assert.equal(pathOf(["/{a}/{b}/"], { a: "{b}", b: "$&$1" }), "/%7Bb%7D/%24%26%241/");
});

test("of several patterns the one with just these parameters is taken", () => {
  const patterns = ["/ws/", "/ws/{room}/", "/ws/{room}/{größe}/"];
  assert.equal(pathOf(patterns), "/ws/");
  assert.equal(pathOf(patterns, { room: "a" }), "/ws/a/");
  assert.equal(pathOf(patterns, { größe: 1, room: "a" }), "/ws/a/1/");
  assert.throws(() => pathOf(patterns, { id: 1 }), refusal("TypeError", "no pattern has exactly these parameters: id"));
  assert.throws(() => pathOf(["/{room}/"]), refusal("TypeError", "no pattern has exactly these parameters: none"));
});

test("what would lead elsewhere is refused", () => {
  for (const room of ["", ".", ".."]) assert.throws(() => pathOf(["/{room}/"], { room }), refusal("RangeError", `the path parameter room can't be "${room}"`));
  for (const room of [null, undefined, {}, true]) {
    assert.throws(() => pathOf(["/{room}/"], { room } as never), refusal("TypeError", "room must be a string"));
  }
  assert.equal(pathOf(["/{room}/"], { room: "..." }), "/.../");
});
