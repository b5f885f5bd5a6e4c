/** The panel next to the chat: what goes over the wire, and ways to disturb it. */

import { client, room } from "../chat/chat.js";
import { follow, make } from "../chat/dom.js";
import { cut, wire } from "./wire.js";

const MAX_ROWS = 200;

const log = document.getElementById("wire");
const note = document.getElementById("wire-note");
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

// The log.

const scroll = follow(log);

function add(kind, mark, title, ...details) {
  const head = make("p", "", make("span", "mark", mark), " ", make("b", "", title), " ", make("time", "", clock.format(Date.now())));
  log.append(make("li", kind, head, ...details));
  while (log.children.length > MAX_ROWS) log.firstChild.remove();
  scroll();
}

function addFrame(direction, text) {
  const { event, data, ref } = JSON.parse(text);
  // The client's refs end with a number. The answer to a request has the same.
  const title = ref === undefined ? event : `${event} #${ref.split("-").at(-1)}`;
  const kind = event === "wsrt.error" ? "refused" : event.startsWith("wsrt.") ? `${direction} reserved` : direction;
  add(kind, direction === "sent" ? "↑" : "↓", title, ...(event === "wsrt.error" ? refusal(data) : [make("code", "", JSON.stringify(data))]));
}

/** What the server has refused: a line for each field. */
function refusal({ code, message, errors }) {
  if (!errors?.length) return [make("p", "", `${code}: ${message}`)];
  const fields = errors.flatMap(({ loc, msg }) => [make("dt", "", loc.join(".")), make("dd", "", msg)]);
  return [make("p", "", `${code}: refused fields`), make("dl", "", ...fields)];
}

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

let lostAt = null;

wire.addEventListener("sent", ({ detail }) => addFrame("sent", detail));
wire.addEventListener("received", ({ detail }) => addFrame("received", detail));
wire.addEventListener("opened", ({ detail }) => {
  const title = lostAt === null ? "Connected" : `Reconnected after ${seconds(Date.now() - lostAt)}`;
  add("opened", "●", title, make("code", "", detail));
  lostAt = null;
});
wire.addEventListener("failed", ({ detail }) => add("closed", "✕", "Not reached", make("code", "", detail)));
wire.addEventListener("closed", ({ detail: { code, reason } }) => {
  lostAt ??= Date.now();
  const without = code === 1006 ? "No close frame: the network or the server is gone." : "Closed by this page.";
  add("closed", "✕", `Closed ${code}`, make("p", "", reason || without));
});
client.onState(({ state, retry }) => {
  if (retry) add("planned", "…", `Attempt ${retry.attempt} in ${seconds(retry.delayMs)}`);
  if (state === "closed") add("planned", "…", "The client doesn't reconnect");
});

// What was missed.

const WHY = {
  epoch: "their history was lost or emptied",
  trimmed: "there were more than the history keeps",
  expired: "they are older than the history keeps them",
  too_many: "there are more than the server sends at once",
  late: "the client asked for them too late",
};

client.onRecovered((name, { recovered, count, reason }) => {
  if (name !== room) return;
  if (recovered) add("recovered", "↻", count ? `Received ${count} missed ${count === 1 ? "event" : "events"}` : "Nothing was missed");
  else add("reloaded", "↻", "The page loads the messages again", make("p", "", `The missed events can't be received: ${WHY[reason] ?? reason}.`));
});

// The server.

let server;

client.on("demo.served_by", (now) => {
  const { name, pid, port } = now;
  document.getElementById("served-by").replaceChildren(make("b", "", name), `, process ${pid}, port ${port}`);
  if (server && server.pid !== pid) {
    say(server.port === port ? `${name} has been started again.` : `${server.name} is gone. This window continues on ${name}.`);
  }
  server = now;
});

// The buttons.

const DISTURBANCES = {
  drop() {
    say("The connection is cut for three seconds. Write something in another window: the client receives it when it is back.");
    cut();
  },
  async invalid() {
    say("The server names each field that it refuses. The connection stays open.");
    await client.request("room.open", { name: "x", topic: 7 }).catch(() => {});
  },
  async slow() {
    say("Frames now come faster than this client reads. The server closes it before memory grows.");
    await client.request("demo.be_slow").catch(() => {});
  },
  async kill() {
    say(`${server.name} is killed. Its clients reconnect where they can.`);
    const { url, token } = document.getElementById("kill").dataset;
    const target = new URL(url, `${location.protocol}//${location.hostname}:${server.port}`);
    await fetch(target, { method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({ csrfmiddlewaretoken: token }) }).catch(() => {});
  },
};

for (const [id, disturb] of Object.entries(DISTURBANCES)) {
  document.getElementById(id)?.addEventListener("click", () => {
    if (client.state === "open") disturb();
    else say("There is no connection at the moment.");
  });
}

function say(text) {
  note.textContent = text;
}
