/** A connection that comes back by itself, on the subprotocol wsrt.v1. */

const BASE_MS = 500;
const CAP_MS = 20_000;
const STABLE_MS = 10_000;
const LATER_MS = 5_000;

/** Close codes after which coming back would only be refused again; stock Daphne adds 3000 to the protocol's own. */
const NEVER = new Set([1000, 1002, 1003, 1007, 1008, 1009, 1010, 4007, 4008, 4009, 4403, 4404, 4409, 4410]);
const UNAUTHENTICATED = 4401;
const RATE_LIMITED = 4429;

export class Connection {
  /**
   * @param {string} url
   * @param {{onEvent: (event: string, data: any) => void, onState: (state: string, detail: any) => void}} listener
   */
  constructor(url, listener) {
    this.url = url;
    this.listener = listener;
    this.attempts = 0;
    this.requests = new Map();
    this.nextRef = 1;
    this.heard = 0;
    this.patience = 40_000;
    addEventListener("online", () => this.retryNow());
    addEventListener("pageshow", (event) => event.persisted && this.retryNow());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.retryNow());
    setInterval(() => this.watch(), 5_000);
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.listener.onState("connecting");
    const socket = new WebSocket(this.url, ["wsrt.v1"]);
    this.socket = socket;
    // Events of a socket that was replaced are nobody's.
    const ifCurrent = (handle) => (event) => socket === this.socket && handle(event);
    socket.onopen = ifCurrent(() => {
      this.heard = Date.now();
      socket.send('{"event":"wsrt.resume","data":{}}');
    });
    socket.onmessage = ifCurrent((event) => this.receive(JSON.parse(event.data)));
    socket.onclose = ifCurrent((event) => this.closed(event.code, event.reason));
  }

  /** Ask, and get the answer's data, or an Error with `code` and `errors`. */
  request(event, data) {
    if (!this.isLive) return Promise.reject(new Error("Not connected. Your text is kept; try again in a moment."));
    const ref = String(this.nextRef++);
    return new Promise((resolve, reject) => {
      this.requests.set(ref, { resolve, reject });
      this.socket.send(JSON.stringify({ event, data, ref }));
    });
  }

  send(event, data = {}) {
    if (this.isLive) this.socket.send(JSON.stringify({ event, data }));
  }

  receive({ event, data, ref }) {
    this.heard = Date.now();
    const request = this.requests.get(ref);
    if (request !== undefined) {
      this.requests.delete(ref);
      if (event === "wsrt.error") request.reject(Object.assign(new Error(data.message), data));
      else request.resolve(data);
    } else if (event === "wsrt.hello") {
      this.patience = ((data.heartbeat ?? 3600) + (data.heartbeat_timeout ?? 10)) * 1000 + 5_000;
    } else if (event === "wsrt.joined") {
      // Only now is nothing missed: what was said before is fetched.
      this.isLive = true;
      this.stable = setTimeout(() => (this.attempts = 0), STABLE_MS);
      this.listener.onState("live");
    } else if (event === "wsrt.ping") {
      this.socket.send('{"event":"wsrt.pong","data":{}}');
    } else if (!event.startsWith("wsrt.")) {
      this.listener.onEvent(event, data);
    }
  }

  closed(code, reason) {
    this.isLive = false;
    clearTimeout(this.stable);
    for (const { reject } of this.requests.values()) reject(new Error("The connection was lost before an answer came."));
    this.requests.clear();
    if (code === UNAUTHENTICATED) {
      this.listener.onState("signed-out");
      return;
    }
    if (NEVER.has(code)) {
      this.listener.onState("refused", { code, reason });
      return;
    }
    const spread = Math.random() * Math.min(CAP_MS, BASE_MS * 2 ** this.attempts++);
    const wait = (code === RATE_LIMITED ? LATER_MS : 200) + spread;
    this.listener.onState("waiting", { until: Date.now() + wait });
    this.timer = setTimeout(() => this.open(), wait);
  }

  retryNow() {
    if (this.timer !== undefined) this.open();
    else this.watch();
  }

  /** A dead link closes no socket: silence for too long is the only sign. */
  watch() {
    if (this.isLive && Date.now() - this.heard > this.patience) {
      const socket = this.socket;
      this.closed(1006, "");
      this.socket = undefined;
      socket.close();
    }
  }
}
