/**
 * Keeps a page of the admin's "Realtime" up to date.
 *
 * The page says in its markup what it shows: `data-watch` is what to ask the server, and what comes back is written into
 * the elements that name its fields. Text is only ever written as text.
 */

const FIRST_TRIES_MS = [5_000, 30_000];
const MISSING_MS = 5 * 60_000;
const BASE_MS = 500;
const CAP_MS = 20_000;
const LATER_MS = 5_000;
const STABLE_MS = 10_000;
const HIDDEN_MS = 60_000;

/** Codes after which the page would only be refused again. Stock Daphne adds 3000 to the protocol's own. */
const REFUSED = new Set([4401, 4403]);
const NEVER = new Set([1000, 1002, 1003, 1007, 1008, 1009, 1010, 4007, 4008, 4009, 4404, 4409, 4410]);
const RATE_LIMITED = 4429;

// What the page shows.

/** Where an attribute is read: a row, or the page without its rows. */
function* within(scope, attribute) {
  if (scope === document) yield* document.querySelectorAll(`#content-main [${attribute}]:not(tr *)`);
  else yield* scope.querySelectorAll(`[${attribute}]`);
}

function write(element, text) {
  if (element.textContent === text) return;
  const only = element.firstChild;
  // The text of a node is changed, and the node stays: so does a selection.
  if (only !== null && only === element.lastChild && only.nodeType === Node.TEXT_NODE) only.data = text;
  else element.textContent = text;
}

class Show {
  constructor(timeZone) {
    this.clock = clock(timeZone);
    this.answer = undefined;
    for (const table of document.querySelectorAll("table[data-rows]")) {
      // Rows hold still while somebody points at them; what changed meanwhile is made up for afterwards.
      table.addEventListener("pointerleave", () => this.again());
      table.addEventListener("focusout", () => setTimeout(() => this.again()));
    }
  }

  show(answer) {
    const isFirst = this.answer === undefined;
    this.answer = answer;
    const focused = document.activeElement;
    const selected = selection();
    this.fill(document, answer);
    for (const element of within(document, "data-empty")) element.hidden = answer[element.dataset.empty].length > 0;
    for (const table of document.querySelectorAll("table[data-rows]")) {
      this.rows(table, answer[table.dataset.rows], isFirst);
    }
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
    reselect(selected);
  }

  again() {
    if (this.answer !== undefined) this.show(this.answer);
  }

  fill(scope, values) {
    for (const attribute of ["data-show", "data-field"]) {
      for (const element of within(scope, attribute)) {
        const value = values[element.getAttribute(attribute)];
        const isTime = element.dataset.format === "time" && value !== null;
        write(element, value === null ? "" : isTime ? this.clock(value) : String(value));
      }
    }
    for (const element of within(scope, "data-if")) element.hidden = !values[element.dataset.if];
    for (const element of within(scope, "data-unless")) element.hidden = Boolean(values[element.dataset.unless]);
    for (const link of within(scope, "data-href")) {
      link.href = link.dataset.href + encodeURIComponent(values[link.dataset.param] ?? "");
    }
    for (const button of within(scope, "data-target")) {
      button.value = JSON.stringify([button.dataset.target, values.namespace, values.id]);
    }
  }

  rows(table, rows, isFirst) {
    const body = table.tBodies[0];
    const template = body.querySelector("template");
    const isHeld = body.matches(":hover") || body.contains(document.activeElement);
    const before = new Map([...body.rows].map((row) => [row.dataset.key, row]));
    const wanted = rows.map((values) => {
      const key = String(values[table.dataset.key] ?? "");
      let row = before.get(key);
      before.delete(key);
      if (row === undefined) {
        row = template.content.querySelector("tr").cloneNode(true);
        row.dataset.key = key;
        if (!isFirst) row.classList.add("wsrt-new");
      }
      this.fill(row, values);
      setGone(row, false);
      return row;
    });
    if (isHeld) {
      for (const row of before.values()) setGone(row, true);
      for (const row of wanted) if (!row.isConnected) body.append(row);
      return;
    }
    for (const row of before.values()) row.remove();
    let place = body.rows[0] ?? null;
    for (const row of wanted) {
      if (row === place) place = nextRow(row);
      else body.insertBefore(row, place);
    }
  }
}

function nextRow(row) {
  const next = row.nextElementSibling;
  return next instanceof HTMLTableRowElement ? next : null;
}

function setGone(row, isGone) {
  if (row.classList.contains("wsrt-gone") === isGone) return;
  row.classList.toggle("wsrt-gone", isGone);
  for (const button of row.querySelectorAll("button")) button.disabled = isGone;
}

/** Times as the server writes them, which has the same zone. */
function clock(timeZone) {
  const options = { dateStyle: "short", timeStyle: "medium" };
  let format;
  try {
    format = new Intl.DateTimeFormat("sv-SE", { ...options, timeZone });
  } catch {
    format = new Intl.DateTimeFormat("sv-SE", { ...options, timeZone: "UTC" });
  }
  return (text) => format.format(new Date(text));
}

function selection() {
  const { anchorNode, anchorOffset, focusNode, focusOffset, isCollapsed } = getSelection() ?? { isCollapsed: true };
  return isCollapsed ? undefined : [anchorNode, anchorOffset, focusNode, focusOffset];
}

function reselect(selected) {
  if (selected === undefined) return;
  const [from, , to] = selected;
  const now = getSelection();
  if (!from.isConnected || !to.isConnected || (now.anchorNode === from && now.focusNode === to)) return;
  try {
    now.setBaseAndExtent(...selected);
  } catch {
    // What was selected is shorter now.
  }
}

// What the server says.

class Live {
  constructor(status) {
    this.status = status;
    this.texts = status.dataset;
    this.url = new URL(this.texts.url, location.href);
    this.url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.show = new Show(this.texts.timeZone);
    this.attempts = 0;
    this.wasOpen = false;
    this.heard = 0;
    this.patience = 60_000;
    this.spread = 0;
    addEventListener("online", () => this.retry());
    addEventListener("pageshow", (event) => event.persisted && this.retry());
    addEventListener("pagehide", () => this.pause());
    document.addEventListener("visibilitychange", () => this.turn());
    setInterval(() => this.watch(), 5_000);
    if (isKnownToBeMissing()) this.say("off");
    else this.open();
  }

  say(state) {
    this.status.dataset.state = state;
    // Nothing to tell before there ever was a connection.
    this.status.hidden = !this.wasOpen && state !== "off" && state !== "refused";
    write(this.status, this.texts[state]);
  }

  open() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.say("connecting");
    const socket = new WebSocket(this.url, ["wsrt.v1"]);
    this.socket = socket;
    // What a socket says that was replaced counts no more.
    const ifCurrent = (handle) => (event) => socket === this.socket && handle(event);
    socket.onopen = ifCurrent(() => {
      this.heard = Date.now();
      socket.send('{"event":"wsrt.resume","data":{}}');
      socket.send(this.texts.watch);
    });
    socket.onmessage = ifCurrent((event) => this.receive(JSON.parse(event.data)));
    socket.onclose = ifCurrent((event) => this.closed(event.code));
  }

  receive({ event, data }) {
    this.heard = Date.now();
    switch (event) {
      case "wsrt.hello":
        this.wasOpen = true;
        this.patience = ((data.heartbeat ?? 3600) + (data.heartbeat_timeout ?? 10)) * 1000 + 5_000;
        this.stable = setTimeout(() => (this.attempts = 0), STABLE_MS);
        break;
      case "wsrt.ping":
        this.socket.send('{"event":"wsrt.pong","data":{}}');
        break;
      case "wsrt.closing":
        this.spread = data.retry_after_ms;
        break;
      case "unavailable":
        this.say("unavailable");
        break;
      default:
        if (event.startsWith("wsrt.")) break;
        this.say("live");
        this.show.show(data);
    }
  }

  closed(code) {
    this.socket = undefined;
    clearTimeout(this.stable);
    if (REFUSED.has(code)) this.say("refused");
    else if (NEVER.has(code)) this.say("off");
    else if (this.wasOpen) this.retryLater(code);
    else this.tryOnceMore();
  }

  retryLater(code) {
    const backoff = Math.random() * Math.min(CAP_MS, BASE_MS * 2 ** this.attempts++);
    const least = code === RATE_LIMITED ? LATER_MS : 200 + Math.random() * this.spread;
    this.spread = 0;
    this.say("waiting");
    this.timer = setTimeout(() => this.open(), least + backoff);
  }

  /** Where there never was a connection there may be no route, and each try is an error in the server's log. */
  tryOnceMore() {
    const wait = FIRST_TRIES_MS[this.attempts++];
    if (wait !== undefined) {
      this.timer = setTimeout(() => this.open(), wait * (0.5 + Math.random()));
      return;
    }
    rememberMissing();
    this.say("off");
  }

  retry() {
    if (this.timer !== undefined || this.isPaused) {
      this.isPaused = false;
      this.open();
    } else this.watch();
  }

  /** Nobody looks at a page that is hidden for long: it is not kept up to date, and the store is not asked. */
  turn() {
    clearTimeout(this.hiding);
    if (document.visibilityState === "visible") this.retry();
    else this.hiding = setTimeout(() => this.pause(), HIDDEN_MS);
  }

  pause() {
    if (this.socket === undefined) return;
    const socket = this.socket;
    this.socket = undefined;
    this.isPaused = true;
    clearTimeout(this.stable);
    socket.close(1000);
  }

  /** A dead link closes no socket: silence for too long is the only sign. */
  watch() {
    if (this.socket?.readyState !== WebSocket.OPEN || Date.now() - this.heard <= this.patience) return;
    const socket = this.socket;
    this.closed(1006);
    socket.close();
  }
}

const MISSING = "wsrt.admin.missing";

function isKnownToBeMissing() {
  try {
    return Date.now() - Number(sessionStorage.getItem(MISSING) ?? 0) < MISSING_MS;
  } catch {
    return false;
  }
}

function rememberMissing() {
  try {
    sessionStorage.setItem(MISSING, String(Date.now()));
  } catch {
    // Nothing may be stored: it is tried again on every page.
  }
}

new Live(document.getElementById("wsrt-live"));
