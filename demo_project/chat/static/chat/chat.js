/** The page of a room: its messages, its members, and who is typing. */

import { ChatClient } from "./clients/index.js";
import { avatar, hue, make } from "./dom.js";
import { Messages } from "./messages.js";
import { Outbox, QUEUE } from "./outbox.js";
import { watchRooms } from "./rooms.js";
import { watchStatus } from "./status.js";
import { Typists } from "./typists.js";

const TYPING_EVERY_MS = 1_500;

const { url, room, self } = document.getElementById("chat").dataset;
const list = document.getElementById("messages");
const input = document.getElementById("text");

const client = new ChatClient(url, { queue: QUEUE });
const messages = new Messages(list, self);
const outbox = new Outbox(client, document.getElementById("outbox"));
const typists = new Typists(document.getElementById("typing"));

for (const mark of document.querySelectorAll(".avatar[data-name]")) mark.style.setProperty("--hue", hue(mark.dataset.name));
for (const message of JSON.parse(document.getElementById("shown").textContent)) messages.show(message);
list.scrollTop = list.scrollHeight;

watchStatus(client, room, document.getElementById("state"));
watchRooms(client);

client.on("message.sent", (message) => {
  typists.remove(message.author);
  messages.show(message);
});

client.on("typing", ({ author }) => typists.add(author));

// From the moment the server confirms the join, no message is missed. Fetch those sent before.
client.onRoom(async (_, membership) => {
  if (!membership?.joined) return;
  const response = await fetch(`messages/?after=${messages.last}`);
  if (response.ok) for (const message of (await response.json()).messages) messages.show(message);
});

client.onPresence((_, presence) => {
  const names = [...(presence?.members?.values() ?? [])].map(({ data }) => data?.name ?? "Guest");
  const people = names.map((name) => make("li", "", avatar(name), make("span", "", name)));
  document.getElementById("here").replaceChildren(...people);
});

let lastTyping = 0;

input.addEventListener("input", () => {
  if (!input.value || Date.now() - lastTyping < TYPING_EVERY_MS) return;
  lastTyping = Date.now();
  // Stale typing notices are useless. On a slow connection only the latest one is queued.
  client.send("typing.start", {}, { volatile: "typing" });
});

document.getElementById("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text) return;
  input.value = "";
  lastTyping = 0;
  outbox.send(text);
  list.scrollTop = list.scrollHeight;
});

client.connect();
