/** What must compile, and what must not. Nothing here is about what happens at run time. */

import { test } from "node:test";

import { Client, type Socket, type SocketClass } from "../../../wsrt/clients/runtime/typescript/index.js";

interface Said {
  text: string;
  author?: string;
}

interface Receives {
  said: Said;
  "user.typing": { user: string };
}

interface Sends {
  say: { text: string };
  refresh: { since?: number };
  ids: number[];
}

interface Replies {
  say: Said;
  refresh: void;
}

class ChatClient extends Client<Receives, Sends, Replies, { name: string }> {}

export function good(client: ChatClient): void {
  const stop: () => void = client.on("said", ({ text, author }, { room }) => [text.length, author?.length, room?.length]);
  stop();
  client.send("say", { text: "hi" }, { queue: true });
  client.send("refresh");
  client.send("refresh", { since: 1 });
  client.send("refresh", undefined, { volatile: "refresh" });
  client.send("ids", [1]);
  void client.request("say", { text: "hi" }, { timeout: 5 }).then(({ text }) => text.length);
  void client.request("refresh").then((nothing: void) => nothing);
  client.presence.get("lobby")?.members?.get("ada")?.data?.name.length;
  client.rooms.get("lobby")?.offset?.toFixed();
  client.setPosition("lobby", { epoch: "e1", offset: 5 });
  client.onRecovered((room, { recovered, count, reason }) => [room, recovered || reason?.length, count.toFixed()]);
  client.onForgotten((room, { epoch, offset }) => [room, epoch.length, offset.toFixed()]);
  client.onState(({ state }) => state === "waiting");
  new ChatClient("/ws/", { WebSocket });
  new ChatClient(new URL("ws://x"), { WebSocket, getToken: async () => "t" });
  new ChatClient(async () => "ws://x");
  // Without types everything goes.
  new Client("ws://x").send("whatever", { a: 1 });
}

export function bad(client: ChatClient): void {
  // @ts-expect-error no such event
  client.on("sayd", () => {});
  // @ts-expect-error half a position
  client.setPosition("lobby", { offset: 5 });
  // @ts-expect-error an event that it sends is none that it receives
  client.on("say", () => {});
  // @ts-expect-error no such field
  client.on("said", ({ txt }) => txt);
  // @ts-expect-error may be missing
  client.on("said", ({ author }) => author.length);
  // @ts-expect-error no such event
  client.send("shout", { text: "hi" });
  // @ts-expect-error an event that it receives is none that it sends
  client.send("said", { text: "hi" });
  // @ts-expect-error data is missing
  client.send("say");
  // @ts-expect-error a field is missing
  client.send("say", {});
  // @ts-expect-error wrong type
  client.send("say", { text: 1 });
  // @ts-expect-error no such field
  client.send("say", { text: "hi", loud: true });
  // @ts-expect-error wrong elements
  client.send("ids", ["1"]);
  // @ts-expect-error no such option
  client.send("say", { text: "hi" }, { queued: true });
  // @ts-expect-error a key, not a flag
  client.send("say", { text: "hi" }, { volatile: true });
  // @ts-expect-error no such request
  client.request("ids", [1]);
  // @ts-expect-error data is missing
  client.request("say");
  // @ts-expect-error no such field in the answer
  void client.request("say", { text: "hi" }).then(({ txt }) => txt);
  // @ts-expect-error nothing is in the answer
  void client.request("refresh").then((answer) => answer.text);
  // @ts-expect-error no such state
  client.onState(({ state }) => state === "opened");
  // @ts-expect-error read only
  client.state = "open";
  // @ts-expect-error read only
  client.rooms.set("lobby", null);
  // @ts-expect-error read only
  client.presence.clear();
  // @ts-expect-error no such field
  client.presence.get("lobby")?.members?.get("ada")?.data?.nick;
  // @ts-expect-error may be missing
  client.presence.get("lobby").count;
  // @ts-expect-error no such option
  new ChatClient("/ws/", { tokn: "t" });
  // @ts-expect-error no URL
  new ChatClient();
}

// What browsers have is what is used.
export const browsers = (): SocketClass => WebSocket;
export const browser = (socket: WebSocket): Socket => socket;

test("types compile", () => {});
