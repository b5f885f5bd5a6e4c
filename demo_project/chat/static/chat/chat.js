/** The page of a room: its messages, its members, and who is typing. */

import { WatchedWebSocket, whenBack } from "../backstage/wire.js";
import { ChatClient } from "./clients/index.js";
import { avatar, make, paint } from "./dom.js";
import { Messages } from "./messages.js";
import { Outbox, QUEUE } from "./outbox.js";
import { watchRooms } from "./rooms.js";
import { Servers } from "./servers.js";
import { watchStatus } from "./status.js";
import { Typists } from "./typists.js";

const TYPING_EVERY_MS = 1_500;

export const { room } = document.getElementById("chat").dataset;
const { ports, userId, position } = document.getElementById("chat").dataset;
const self = Number(userId);
const list = document.getElementById("messages");
const input = document.getElementById("text");

const servers = new Servers(ports.split(","), ChatClient.path({ slug: room }));
// The page shows every frame, and may be kept away. An application leaves out the option WebSocket and the function.
export const client = new ChatClient(() => whenBack(() => servers.url), { queue: QUEUE, WebSocket: WatchedWebSocket });

const messages = new Messages(list, self);
const outbox = new Outbox(client, document.getElementById("outbox"));
const typists = new Typists(document.getElementById("typing"));

// The server has read these messages after this position. The client receives those that come after it.
if (position) client.setPosition(room, JSON.parse(position));
for (const message of JSON.parse(document.getElementById("shown").textContent)) messages.show(message);
for (const mark of document.querySelectorAll(".avatar[data-user]")) paint(mark, mark.dataset.user);

servers.follow(client);
watchStatus(client, room);
watchRooms(client);

client.on("message.sent", (message) => {
  typists.remove(message.user_id);
  messages.show(message);
});

client.on("typing", ({ user_id, author }) => {
  if (user_id !== self) typists.add(user_id, author);
});

// After a reconnect, the client receives what it has missed. Load it only if that is no longer possible.
client.onRecovered(async (name, { recovered }) => {
  if (name !== room || recovered) return;
  let answer;
  do {
    answer = await client.request("message.catch_up", { after: messages.last });
    for (const message of answer.messages) messages.show(message);
  } while (answer.has_more);
});

client.onPresence((_, presence) => {
  if (!presence) return; // unknown without a connection: the last ones stay, greyed
  const people = [...presence.members.values()].map(({ user_id, data }) => {
    const server = ports.includes(",") ? [make("small", "", data.server)] : [];
    return make("li", "", avatar(data.name, user_id), make("span", "", data.name), ...server);
  });
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
