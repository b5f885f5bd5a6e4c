import { Connection } from "./connection.js";
import { hue } from "./people.js";

const TYPING_MS = 3_000;
const TYPING_EVERY_MS = 1_500;

const chat = document.getElementById("chat");
const list = document.getElementById("messages");
const stateLine = document.getElementById("state");
const typingLine = document.getElementById("typing");
const composer = document.getElementById("composer");
const input = document.getElementById("text");
const problem = document.getElementById("problem");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

for (const avatar of document.querySelectorAll(".avatar[data-name]")) avatar.style.setProperty("--hue", hue(avatar.dataset.name));

// Messages, by id: whatever way one comes, it is shown once and in order.

const shown = new Map();

function show(message) {
  if (shown.has(message.id)) return;
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  const item = document.createElement("li");
  item.className = message.is_announcement ? "announcement" : message.author === chat.dataset.self ? "message mine" : "message";
  item.append(avatar(message.author), body(message));
  const later = [...shown.keys()].filter((id) => id > message.id);
  list.insertBefore(item, later.length ? shown.get(Math.min(...later)) : null);
  shown.set(message.id, item);
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

function avatar(name) {
  const mark = document.createElement("span");
  mark.className = "avatar";
  mark.textContent = [...name][0] ?? "?";
  mark.style.setProperty("--hue", hue(name));
  mark.ariaHidden = "true";
  return mark;
}

function body(message) {
  const box = document.createElement("div");
  const head = document.createElement("p");
  head.className = "head";
  const author = document.createElement("b");
  author.textContent = message.author;
  const time = document.createElement("time");
  time.dateTime = message.sent_at;
  time.textContent = clock.format(new Date(message.sent_at));
  head.append(author, message.is_announcement ? " announces " : " ", time);
  const text = document.createElement("p");
  text.className = "text";
  text.textContent = message.text;
  box.append(head, text);
  return box;
}

async function fetchMissed() {
  const last = Math.max(0, ...shown.keys());
  const response = await fetch(`messages/?after=${last}`);
  if (!response.ok) return;
  for (const message of (await response.json()).messages) show(message);
}

// Typing marks.

const typists = new Map();

function markTyping(author) {
  clearTimeout(typists.get(author));
  typists.set(author, setTimeout(() => unmarkTyping(author), TYPING_MS));
  sayWhoTypes();
}

function unmarkTyping(author) {
  clearTimeout(typists.get(author));
  typists.delete(author);
  sayWhoTypes();
}

function sayWhoTypes() {
  const names = [...typists.keys()];
  typingLine.textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
}

// The connection.

const SAYS = {
  connecting: "Connecting",
  live: "Live",
  "signed-out": "Signed out",
  refused: "Not allowed here",
};
let countdown;

function onState(state, detail) {
  clearInterval(countdown);
  stateLine.dataset.state = state;
  stateLine.textContent = SAYS[state] ?? "";
  if (state === "waiting") {
    const tick = () => {
      const seconds = Math.max(0, Math.ceil((detail.until - Date.now()) / 1000));
      stateLine.textContent = seconds ? `Back in ${seconds} s` : "Reconnecting";
    };
    tick();
    countdown = setInterval(tick, 250);
  }
  if (state === "live") fetchMissed();
}

function onEvent(event, data) {
  if (event === "message.sent") {
    unmarkTyping(data.author);
    show(data);
  } else if (event === "typing") {
    markTyping(data.author);
  }
}

const scheme = location.protocol === "https:" ? "wss" : "ws";
const connection = new Connection(`${scheme}://${location.host}/ws/rooms/${chat.dataset.room}/`, { onEvent, onState });

// The composer.

let lastTyping = 0;

input.addEventListener("input", () => {
  problem.textContent = "";
  if (input.value && Date.now() - lastTyping > TYPING_EVERY_MS) {
    lastTyping = Date.now();
    connection.send("typing.start");
  }
});

composer.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text) return;
  input.value = "";
  composer.classList.add("pending");
  try {
    await connection.request("message.send", { text });
    lastTyping = 0;
  } catch (error) {
    problem.textContent = error.errors?.[0]?.msg ?? error.message;
    if (!input.value) input.value = text;
  } finally {
    composer.classList.remove("pending");
    input.focus();
  }
});

for (const message of JSON.parse(document.getElementById("shown").textContent)) show(message);
list.scrollTop = list.scrollHeight;
