/** What goes over the WebSockets of the page. Events with a `detail`: opened, failed, sent, received, closed. */
export const wire = new EventTarget();

const report = (type, detail) => wire.dispatchEvent(new CustomEvent(type, { detail }));

let current;

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

/** Lose the connection without a close frame. A page can't cut its network: it closes the socket and reports 1006. */
export function cut() {
  const socket = current;
  socket.dispatchEvent(new CloseEvent("close", { code: 1006 }));
  socket.close();
}
