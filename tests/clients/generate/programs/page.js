// @ts-check
/** A script of a page: what an editor finds wrong in it, and nothing else. */

import { Client, statusStore } from "wsrt";

import { ChatClient, CafeClient, EveryTypeClient } from "./client/index.js";

const chat = new ChatClient(ChatClient.path({ room: "a" }), { token: "t" });
const every = new EveryTypeClient("/");

/** @type {import("./client/index.js").Order} */
export const order = { drink: { kind: "coffee", shots: 1 }, size: "large", table: 1, route: [1, "a"] };
/** @type {import("./client/index.js").MailMessage | import("./client/index.js").OddStatus} */
export const names = { subject: "" };

every.on("everything", ({ pet }) => (pet.kind === "cat" ? pet.lives : pet.name));
chat.request("echo", { value: "" }).then(({ value }) => value);
statusStore(chat).subscribe(({ state }) => state);
new Client("/").on("anything", (data) => data.whatever);

every.on("everythin", () => {}); // TS2345: no such event
every.on("everything", ({ pet }) => pet.lives); // TS2339: not before it is known which
every.send("everything", {}); // TS2345: fields are missing
new CafeClient("/").request("order", { ...order, size: "huge" }); // TS2322: no such value
ChatClient.path({ rom: "a" }); // TS2561: no such parameter
statusStore(every).subscribe(({ status }) => status); // TS2339: no such field
