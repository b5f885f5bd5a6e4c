/** What has to compile. */

import * as React from "react";

import {
  CafeClient,
  ChatClient,
  Client,
  EveryTypeClient,
  MailClient,
  OddClient,
  RequestError,
  type Cat,
  type Dog,
  type Everything,
  type EverythingInput,
  type MailMessage,
  type NewsMessage,
  type OddStatus,
  type Order,
  type SameInBoth,
  type Status,
  type Tree,
} from "./client/index.js";
import { hooks } from "./client/runtime/react.js";
import { eventStore, presenceStore } from "./client/runtime/store.js";

export const every = new EveryTypeClient("wss://example.com/every-type/", { token: "t" });
export const cafe: Client<any, any, any, any> = new CafeClient(() => "/cafe/");
export const chat = new ChatClient(new URL(ChatClient.path({ room: 1 }), "wss://example.com"));
export const lobby: string = ChatClient.path();

// Events in.
every.on("everything", (data, { room }) => {
  const exact: Everything = data;
  const pet = exact.pet.kind === "cat" ? exact.pet.lives.toFixed() : exact.pet.name.trim();
  const [first, second] = exact.pair;
  const deep = exact.tree.children[0]?.children[0]?.value;
  const numbers: readonly number[] = [first, exact.level, exact["re-named"], deep ?? 0, exact.mapping["a"] ?? 0];
  return [pet, second.trim(), numbers, room?.length, exact.left_out.length, exact.made.length, exact.boxes[0]?.item];
});
every.on("numbers", (numbers) => numbers.map((number) => number + 1));
every.on("answer / with: odd name", ({ answer }) => answer.toFixed());

// Events out: what has a default may be left out.
const cat: { kind: "cat" } = { kind: "cat" };
export const everything: EverythingInput = {
  text: "",
  number: 1,
  ratio: 0.5,
  flag: true,
  nothing: null,
  anything: { any: ["thing"] },
  raw: "aGk_",
  when: "2026-01-31T12:30:00Z",
  day: "2026-01-31",
  clock: "12:30:00",
  took: "PT1M30S",
  price: 12.5,
  key: "7a6b1a1e-4f0c-4ad5-9f42-0f4a3c2b1d10",
  colour: "red",
  level: 2,
  word: 3,
  maybe: null,
  either: "a",
  pet: cat,
  names: ["a"],
  unique: [1],
  pair: [1, "a"],
  many: [],
  mapping: { a: 1 },
  by_number: { 1: "a" },
  tree: { value: 1, children: [{ value: 2 }] },
  box: { item: 1 },
  boxes: [{ item: "a", count: 2 }],
  "re-named": 1,
  bounded: 1,
  link: "https://example.com/",
};
every.send("everything", everything, { queue: true });
every.send("ask");
every.send("ask", { question: "?" });
every.send("numbers", [1, 2]);

// Requests.
export async function requests(): Promise<void> {
  const echo: Everything = await every.request("everything", everything, { timeout: 5 });
  const maybe: { readonly answer: number } | undefined = await every.request("ask");
  const nothing: undefined = await every.request("numbers", []);
  const order: Order = { drink: { kind: "tea" }, size: "small", table: 1, route: [1, "a"], at: [1] };
  const reply = await new CafeClient("/").request("order", order);
  const id: number | string | null = "id" in reply ? reply.id : reply.until;
  await new CafeClient("/").request("ring", {});
  const proto = await new OddClient("/").request("__proto__", {} as never);
  console.log(echo, maybe?.answer, nothing, id, proto["with space"], proto["*/"], proto.constructor.toFixed());
}

// Rooms that clients may ask for.
export async function rooms(table: number, part: string): Promise<void> {
  const client = new CafeClient("/");
  const uses = [client.subscribe(`table.${table}`), client.subscribe("kitchen", ({ state, error }) => [state, error])];
  uses.push(client.subscribe(`${part}/\`\${"\\'}\``));
  await Promise.all(uses.map((use) => use.ready));
  for (const use of uses) use.unsubscribe();
  const state: "waiting" | "subscribed" | "refused" | "removed" | "ended" = uses[0]!.state;
  console.log(state, uses[0]!.error?.message, uses[0]!.room.length);
  hooks(React).useSubscription(client, "kitchen") satisfies string;
  new Client("/").subscribe("any");
}

// Who is there.
export const here: Cat | null | undefined = every.presence.get("a")?.members?.get("1")?.data;
every.onPresence((_, presence) => presence?.members?.get(null)?.data?.lives.toFixed());
new MailClient("/").onPresence((_, presence) => presence?.members?.get("1")?.data satisfies null | undefined);

// Names that several have.
export const taken: [Status["state"], OddStatus["value"]] = [every.state, 1];
export const messages: [NewsMessage, MailMessage] = [{ headline: "" }, { subject: "" }];
export const same: SameInBoth = { message: { text: "" } };
export const union = (pet: Cat | Dog, tree: Tree): number => (pet.kind === "cat" ? pet.lives : tree.value);
export const refused = (error: unknown): string => (error instanceof RequestError ? error.code : "");

// Views.
const { useClient, useEvent, usePresence, useStatus } = hooks(React);
export function Component(): string {
  const client = useClient(() => new EveryTypeClient("/"), []);
  useEvent(client, "everything", ({ text }) => text.trim());
  return `${useStatus(client).state} ${usePresence(client, "a")?.members?.get("1")?.data?.lives.toFixed()}`;
}
eventStore(every, "everything", 0, (count, { number }) => count + number).subscribe((count) => count.toFixed());
presenceStore(every, "a").subscribe((presence) => presence?.members?.get("1")?.data?.lives.toFixed());
