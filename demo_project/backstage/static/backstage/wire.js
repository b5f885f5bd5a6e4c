/** What goes over the WebSockets of the page. Events with a `detail`: opened, failed, sent, received, closed. */
export const wire = new EventTarget();

const report = (type, detail) => wire.dispatchEvent(new CustomEvent(type, { detail }));

/** How long a page that lost its connection stays away, so that it misses something. */
const AWAY_MS = 3_000;

let current;
let back = Promise.resolve();

/** Return a value when the page may connect: immediately, unless cut() keeps it away. */
export async function whenBack(value) {
  await back;
  return value();
}

/** A WebSocket that reports what it does to `wire`. */
export class WatchedWebSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols);
    current = this;
    let isOpen = false;
    this.addEventListener("open", () => {
      isOpen = true;
      report("opened", url);
    });
    this.addEventListener("message", ({ data }) => report("received", data));
    this.addEventListener("error", () => isOpen || report("failed", url));
    this.addEventListener("close", ({ code, reason }) => isOpen && report("closed", { code, reason }), { once: true });
  }

  send(text) {
    report("sent", text);
    super.send(text);
  }
}

/**
 * Lose the connection without a close frame, and stay away for a while. A page can't cut its network: it closes the
 * socket and reports 1006.
 */
export function cut() {
  back = new Promise((resolve) => setTimeout(resolve, AWAY_MS));
  const socket = current;
  socket.dispatchEvent(new CloseEvent("close", { code: 1006 }));
  socket.close();
}
