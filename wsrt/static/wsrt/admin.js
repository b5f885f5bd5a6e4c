/**
 * Live updates of the admin's "Realtime" pages.
 *
 * The markup drives everything: `data-watch` is the query to send to the server, and each field of the result is
 * written into the elements that name it (`data-show`, `data-field`). Values are written as text, never as HTML.
 */

/** Delays of the retries of the first connection. */
const RETRY_DELAYS_MS = [5_000, 30_000];
/** How long no page of this tab tries again after the first connection has failed. */
const MISSING_FOR_MS = 5 * 60_000;

/** Updates pause when the page has been hidden for this long. */
const PAUSE_AFTER_MS = 60_000;

/** Close codes that mean that the user may no longer see the page. */
const REFUSED_CODES = [4401, 4403];

// The page.

/** Yields the elements with an attribute: those in a row, or those of the document outside of rows. */
function* elementsWith(scope, attribute) {
  if (scope === document) yield* document.querySelectorAll(`#content-main [${attribute}]:not(tr *)`);
  else yield* scope.querySelectorAll(`[${attribute}]`);
}

function setText(element, text) {
  if (element.textContent === text) return;
  const child = element.firstChild;
  // Replacing the text node would lose a selection in it.
  if (child !== null && child === element.lastChild && child.nodeType === Node.TEXT_NODE) child.data = text;
  else element.textContent = text;
}

class PageView {
  constructor(timeZone) {
    this.formatTime = timeFormatter(timeZone);
    this.result = undefined;
    for (const table of document.querySelectorAll("table[data-rows]")) {
      // Rows don't move while the pointer or the focus is on them; they are sorted and removed afterwards.
      table.addEventListener("pointerleave", () => this.refresh());
      table.addEventListener("focusout", () => setTimeout(() => this.refresh()));
    }
  }

  show(result) {
    const isFirst = this.result === undefined;
    this.result = result;
    const focused = document.activeElement;
    const selected = getSelectedRange();
    this.fill(document, result);
    for (const element of elementsWith(document, "data-empty")) element.hidden = result[element.dataset.empty].length > 0;
    for (const table of document.querySelectorAll("table[data-rows]")) {
      this.updateRows(table, result[table.dataset.rows], isFirst);
    }
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
    restoreSelection(selected);
  }

  refresh() {
    if (this.result !== undefined) this.show(this.result);
  }

  fill(scope, values) {
    for (const attribute of ["data-show", "data-field"]) {
      for (const element of elementsWith(scope, attribute)) {
        const value = values[element.getAttribute(attribute)];
        const isTime = element.dataset.format === "time" && value !== null;
        setText(element, value === null ? "" : isTime ? this.formatTime(value) : String(value));
      }
    }
    for (const element of elementsWith(scope, "data-if")) element.hidden = !values[element.dataset.if];
    for (const element of elementsWith(scope, "data-unless")) element.hidden = Boolean(values[element.dataset.unless]);
    for (const link of elementsWith(scope, "data-href")) {
      link.href = link.dataset.href + encodeURIComponent(values[link.dataset.param] ?? "");
    }
    for (const button of elementsWith(scope, "data-target")) {
      button.value = JSON.stringify([button.dataset.target, values.namespace, values.id]);
    }
  }

  updateRows(table, rows, isFirst) {
    const body = table.tBodies[0];
    const template = body.querySelector("template");
    const isInUse = body.matches(":hover") || body.contains(document.activeElement);
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
      markGone(row, false);
      return row;
    });
    if (isInUse) {
      for (const row of before.values()) markGone(row, true);
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

function markGone(row, isGone) {
  if (row.classList.contains("wsrt-gone") === isGone) return;
  row.classList.toggle("wsrt-gone", isGone);
  for (const button of row.querySelectorAll("button")) button.disabled = isGone;
}

/** Returns a function that formats times like the server, in the same time zone. */
function timeFormatter(timeZone) {
  const options = { dateStyle: "short", timeStyle: "medium" };
  let format;
  try {
    format = new Intl.DateTimeFormat("sv-SE", { ...options, timeZone });
  } catch {
    format = new Intl.DateTimeFormat("sv-SE", { ...options, timeZone: "UTC" });
  }
  return (text) => format.format(new Date(text));
}

function getSelectedRange() {
  const { anchorNode, anchorOffset, focusNode, focusOffset, isCollapsed } = getSelection() ?? { isCollapsed: true };
  return isCollapsed ? undefined : [anchorNode, anchorOffset, focusNode, focusOffset];
}

function restoreSelection(selected) {
  if (selected === undefined) return;
  const [from, , to] = selected;
  const now = getSelection();
  if (!from.isConnected || !to.isConnected || (now.anchorNode === from && now.focusNode === to)) return;
  try {
    now.setBaseAndExtent(...selected);
  } catch {
    // The selected text has become shorter than the offsets.
  }
}

// The live socket.

class LiveUpdates {
  constructor(status) {
    this.status = status;
    this.texts = status.dataset;
    this.view = new PageView(this.texts.timeZone);
    this.wasOpen = false;
    this.tries = 0;
  }

  async start() {
    if (wasMissing()) {
      this.showState("off");
      return;
    }
    try {
      // The URL comes from the page: static files storage may add a hash to the file's name.
      const { Client } = await import(this.texts.client);
      this.client = new Client(this.texts.url, { schemaHash: this.texts.schema });
    } catch (error) {
      this.showState("off");
      throw error;
    }
    this.client.onState((status) => this.onState(status));
    this.client.onAny((event, data) => this.onEvent(event, data));
    document.addEventListener("visibilitychange", () => this.onVisibilityChange());
    this.client.connect();
  }

  showState(state) {
    this.status.dataset.state = state;
    // Stay hidden until the first connection opens or fails permanently.
    this.status.hidden = !this.wasOpen && state !== "off" && state !== "refused";
    setText(this.status, this.texts[state]);
  }

  onState({ state, reason, outdated }) {
    if (state === "open" && outdated) {
      // The socket's schema differs from the page's after an upgrade: the results may not fit the markup.
      this.client.close();
      this.showState("off");
    } else if (state === "open") {
      this.wasOpen = true;
      const { event, data } = JSON.parse(this.texts.watch);
      this.client.send(event, data);
    } else if (state === "closed") {
      if (reason.kind !== "client") this.showState(REFUSED_CODES.includes(reason.code) ? "refused" : "off");
    } else if (state === "waiting" && !this.wasOpen && reason.kind !== "page") {
      this.retryFirstConnection();
    } else {
      this.showState(state);
    }
  }

  onEvent(event, result) {
    if (event === "unavailable") {
      this.showState("unavailable");
      return;
    }
    this.showState("live");
    this.view.show(result);
  }

  /** Retries the first connection a few times only: without the route, each try is an error in the server's log. */
  retryFirstConnection() {
    this.client.close();
    const wait = RETRY_DELAYS_MS[this.tries++];
    if (wait !== undefined) {
      setTimeout(() => this.client.connect(), wait * (0.5 + Math.random()));
      return;
    }
    rememberMissing();
    this.showState("off");
  }

  /** Pauses updates while the page is hidden, to spare the store. */
  onVisibilityChange() {
    clearTimeout(this.pauseTimer);
    if (document.visibilityState === "hidden") {
      this.pauseTimer = setTimeout(() => this.pause(), PAUSE_AFTER_MS);
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

const MISSING_KEY = "wsrt.admin.missing";

function wasMissing() {
  try {
    return Date.now() - Number(sessionStorage.getItem(MISSING_KEY) ?? 0) < MISSING_FOR_MS;
  } catch {
    return false;
  }
}

function rememberMissing() {
  try {
    sessionStorage.setItem(MISSING_KEY, String(Date.now()));
  } catch {
    // Storage is blocked: every page tries again.
  }
}

/** Shows that live updates don't work because a theme or a template of the project leaves out the status element. */
function showMissing() {
  const notice = document.createElement("p");
  notice.className = "wsrt-live";
  notice.dataset.state = "off";
  notice.setAttribute("role", "alert");
  notice.textContent = document.querySelector("script[data-wsrt-missing]")?.dataset.wsrtMissing ?? "Not live";
  (document.getElementById("content-main") ?? document.body).prepend(notice);
}

const status = document.getElementById("wsrt-live");
if (status === null) showMissing();
else await new LiveUpdates(status).start();
