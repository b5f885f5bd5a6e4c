/**
 * Keeps a page of the admin's "Realtime" up to date.
 *
 * The page says in its markup what it shows: `data-watch` is what to ask the server, and what comes back is written into
 * the elements that name its fields. Text is only ever written as text.
 */

const FIRST_TRIES_MS = [5_000, 30_000];
const MISSING_MS = 5 * 60_000;
const HIDDEN_MS = 60_000;

/** Codes after which this user may not see the page. */
const REFUSED = [4401, 4403];

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
    this.show = new Show(this.texts.timeZone);
    this.wasOpen = false;
    this.tries = 0;
  }

  async start() {
    if (isKnownToBeMissing()) {
      this.say("off");
      return;
    }
    try {
      // The page knows what the file is called: its name may have a hash.
      const { Client } = await import(this.texts.client);
      this.client = new Client(this.texts.url, { schemaHash: this.texts.schema });
    } catch (error) {
      this.say("off");
      throw error;
    }
    this.client.onState((status) => this.turned(status));
    this.client.onAny((event, data) => this.answered(event, data));
    document.addEventListener("visibilitychange", () => this.lookedAt());
    this.client.connect();
  }

  say(state) {
    this.status.dataset.state = state;
    // Nothing to tell before there ever was a connection.
    this.status.hidden = !this.wasOpen && state !== "off" && state !== "refused";
    write(this.status, this.texts[state]);
  }

  turned({ state, reason, outdated }) {
    if (state === "open" && outdated) {
      // The server is another version than the one that rendered the page: what it says may not fit.
      this.client.close();
      this.say("off");
    } else if (state === "open") {
      this.wasOpen = true;
      const { event, data } = JSON.parse(this.texts.watch);
      this.client.send(event, data);
    } else if (state === "closed") {
      if (reason.kind !== "client") this.say(REFUSED.includes(reason.code) ? "refused" : "off");
    } else if (state === "waiting" && !this.wasOpen && reason.kind !== "page") {
      this.tryOnceMore();
    } else {
      this.say(state);
    }
  }

  answered(event, answer) {
    if (event === "unavailable") {
      this.say("unavailable");
      return;
    }
    this.say("live");
    this.show.show(answer);
  }

  /** Where there never was a connection there may be no route, and each try is an error in the server's log. */
  tryOnceMore() {
    this.client.close();
    const wait = FIRST_TRIES_MS[this.tries++];
    if (wait !== undefined) {
      setTimeout(() => this.client.connect(), wait * (0.5 + Math.random()));
      return;
    }
    rememberMissing();
    this.say("off");
  }

  /** Nobody looks at a page that is hidden for long: it is not kept up to date, and the store is not asked. */
  lookedAt() {
    clearTimeout(this.hiding);
    if (document.visibilityState === "hidden") {
      this.hiding = setTimeout(() => this.pause(), HIDDEN_MS);
    } else if (this.isPaused) {
      this.isPaused = false;
      this.client.connect();
    }
  }

  pause() {
    if (this.client.state === "closed") return;
    this.isPaused = true;
    this.client.close();
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

/** Says that the page does not keep itself up to date: a theme, or a template of the project, has lost the marker. */
function sayMissing() {
  const notice = document.createElement("p");
  notice.className = "wsrt-live";
  notice.dataset.state = "off";
  notice.setAttribute("role", "alert");
  notice.textContent = document.querySelector("script[data-wsrt-missing]")?.dataset.wsrtMissing ?? "Not live";
  (document.getElementById("content-main") ?? document.body).prepend(notice);
}

const status = document.getElementById("wsrt-live");
if (status === null) sayMissing();
else await new Live(status).start();
