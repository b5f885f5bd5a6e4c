/** A connection that comes back by itself: dials, greets, watches, and decides what follows an end. */

import { Backoff } from "./backoff.js";
import { isNetwork, reconnectFor } from "./reconnect.js";
import { socketUrl, type Environment, type Timer } from "./environment.js";
import { ConnectionError, ProtocolError, TimeoutError, UnauthorizedError, type ErrorListener } from "./errors.js";
import { decode, encode, fields, type Frame } from "./frame.js";
import { Connection } from "./connection.js";
import { isPromise } from "./listeners.js";
import { Liveness, type Verdict } from "./liveness.js";
import type { PageSignal } from "./page.js";
import { Credentials } from "./credentials.js";
import type { Address, ClientOptions, Reason, ReasonKind, Retry, State, Status, Timings } from "./types.js";

export const SUBPROTOCOL = "wsrt.v1";

/** RFC 9110, 5.6.2: what a subprotocol consists of. */
const SENDABLE = /^[\w!#$%&'*+.^`|~-]+$/;

/** Whoever uses a connection. */
export interface SupervisorListener {
  /** Return the data of wsrt.resume. */
  claims(): unknown;
  /** The server has greeted: write now. */
  opened(): void;
  /** A frame that is not the connection's own business. What it throws is the server's fault. */
  received(frame: Frame): void;
  /** What was written and not answered will not be. The state that follows from it is told next. */
  lost(): void;
  /** It will not come back by itself. */
  closed(error: Error): void;
  changed(status: Status): void;
}

interface Opening {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class Supervisor {
  /** Bytes of the largest frame that the server takes; infinite while it has not said so. */
  maxPayload = Infinity;

  readonly #address: Address;
  readonly #options: ClientOptions;
  readonly #timings: Timings;
  readonly #environment: Environment;
  readonly #listener: SupervisorListener;
  readonly #report: ErrorListener;
  readonly #backoff: Backoff;
  readonly #credentials: Credentials;

  #status: Status = Object.freeze({ state: "closed", reason: null, outdated: false, retry: null });
  #opening: Opening | null = null;
  #connection: Connection | null = null;
  // What close() ended. Until the server has answered, another dial would make it two connections of one client.
  #closing: Connection | null = null;
  #liveness: Liveness | null = null;
  // One timer at a time: for the retry, the dial, the greeting, or the watch.
  #timer: Timer | null = null;
  // What comes of an older dial is nobody's.
  #dials = 0;
  #openedAt = 0;
  // What the server asked for before it closed, in milliseconds.
  #hint: number | null = null;
  // The time that the server named: no page event makes it earlier.
  #named: Omit<Retry, "attempt"> | null = null;
  // Nothing is dialed until the page is back.
  #isParked = false;
  #hiddenSince: number | null = null;
  #leavePage: (() => void) | null = null;

  constructor(
    address: Address,
    options: ClientOptions,
    timings: Timings,
    environment: Environment,
    listener: SupervisorListener,
    report: ErrorListener,
  ) {
    this.#address = address;
    this.#options = options;
    this.#timings = timings;
    this.#environment = environment;
    this.#listener = listener;
    this.#report = report;
    this.#backoff = new Backoff(timings, environment.random);
    this.#credentials = new Credentials(options.token, options.getToken);
  }

  get status(): Status {
    return this.#status;
  }

  get isOpen(): boolean {
    return this.#status.state === "open";
  }

  /** Bytes that the socket holds, unsent. */
  get buffered(): number {
    return this.#connection?.buffered ?? 0;
  }

  /** Dial, unless that is under way; return a promise of the next time that it is open. */
  connect(): Promise<void> {
    const { state } = this.#status;
    if (state === "open") return Promise.resolve();
    const opening = (this.#opening ??= newOpening());
    if (state === "closed") {
      this.#backoff.attempt = 0;
      this.#enterPage();
    }
    if (state !== "connecting") this.#dial();
    return opening.promise;
  }

  /** End it for good. */
  close(): void {
    if (this.#status.state === "closed") return;
    this.#closing = this.#connection ?? this.#closing;
    this.#drop(1000);
    this.#close({ kind: "client", code: null, text: "" });
  }

  /** Write to an open connection. */
  write(text: string): void {
    this.#connection?.send(text);
  }

  // The way up.

  #dial(): void {
    this.#stopTimer();
    this.#isParked = false;
    this.#named = null;
    const dial = (this.#dials += 1);
    this.#change("connecting");
    if (dial !== this.#dials) return; // a listener thought better of it
    const closing = this.#closing;
    if (!closing || closing.isGone) return this.#prepare(dial);
    const proceed = () => {
      if (dial !== this.#dials || !this.#closing) return;
      this.#closing = null;
      this.#prepare(dial);
    };
    closing.onGone = proceed;
    this.#setTimer(this.#timings.closeTimeoutMs, proceed);
  }

  /** Ask for token and URL, and dial. */
  #prepare(dial: number): void {
    const open = (token: string | null, address: string | { href: string }) => {
      if (dial === this.#dials) this.#open(token, String(typeof address === "string" ? address : address.href));
    };
    const fail = (error: unknown) => {
      if (dial === this.#dials) this.#failed(error);
    };
    // Before they are called: they may think better of it too.
    this.#setTimer(this.#timings.connectTimeoutMs, () => {
      this.#credentials.forget();
      fail(new TimeoutError("no token or no URL in time"));
    });
    try {
      const token = this.#credentials.get();
      const address = typeof this.#address === "function" ? this.#address() : this.#address;
      if (isPromise(token) || isPromise(address)) {
        Promise.all([token, address]).then(([token, address]) => open(token, address), fail);
      } else {
        open(token, address);
      }
    } catch (error) {
      fail(error);
    }
  }

  /** No token, or no URL. */
  #failed(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    // By name: an application may have bundled the class twice.
    if (error instanceof Error && error.name === "UnauthorizedError") {
      this.#close({ kind: "unauthorized", code: null, text });
    } else {
      this.#report(error, "getToken or the function of the URL");
      this.#end("token", null, text);
    }
  }

  #open(token: string | null, address: string): void {
    const protocols = [SUBPROTOCOL, ...(this.#options.protocols ?? [])];
    if (token !== null) protocols.push(`bearer.${token}`);
    const { WebSocket } = this.#environment;
    try {
      // Looked at here: what a browser says of it repeats the token.
      if (token !== null && !SENDABLE.test(token)) {
        throw new TypeError("the token has characters that no subprotocol has: encode it, as base64url without padding");
      }
      if (!WebSocket) throw new TypeError("there is no global WebSocket: pass a class as the option WebSocket");
      this.#connection = new Connection(WebSocket, socketUrl(address), protocols, {
        opened: () => this.#opened(),
        received: (text) => this.#received(text),
        ended: (code, reason) => this.#end(isNetwork(code) ? "network" : "server", code, reason),
      });
    } catch (error) {
      this.#report(error, "connecting");
      this.#close({ kind: "invalid", code: null, text: error instanceof Error ? error.message : String(error) });
      return;
    }
    this.#setTimer(this.#timings.connectTimeoutMs, () => this.#end("timeout", null, "no connection in time"));
  }

  #opened(): void {
    if (this.#connection?.protocol !== SUBPROTOCOL) {
      const text = `the server does not speak ${SUBPROTOCOL}`;
      this.#report(new ProtocolError(text), "connecting");
      this.#end("network", null, text);
      return;
    }
    this.write(encode("wsrt.resume", this.#listener.claims()));
    this.#setTimer(this.#timings.helloTimeoutMs, () => this.#end("timeout", null, "no greeting in time"));
  }

  // Frames.

  #received(text: string): void {
    this.#liveness?.heard(this.#environment.now());
    try {
      this.#take(decode(text));
    } catch (error) {
      // Whatever a server sends, nothing is thrown into the socket: Node would end.
      const what = `the server sent what cannot be handled: ${text.slice(0, 100)} (${error})`;
      this.#report(error instanceof ProtocolError ? error : new ProtocolError(what), "receiving");
    }
  }

  #take(frame: Frame): void {
    switch (frame.event) {
      case "wsrt.ping":
        this.write(encode("wsrt.pong", {}, frame.ref));
        return;
      case "wsrt.pong":
        return;
      case "wsrt.hello":
        this.#greeted(fields(frame.data));
        return;
      case "wsrt.closing": {
        const hint = fields(frame.data)["retry_after_ms"];
        if (Number.isFinite(hint) && (hint as number) >= 0) this.#hint = hint as number;
        return;
      }
      default:
        this.#listener.received(frame);
    }
  }

  #greeted(hello: Record<string, unknown>): void {
    if (this.isOpen) return;
    const numberOf = (key: string) => (typeof hello[key] === "number" ? hello[key] : null);
    const now = this.#environment.now();
    this.maxPayload = numberOf("max_payload") ?? Infinity;
    this.#openedAt = now;
    this.#liveness = new Liveness(numberOf("heartbeat"), numberOf("heartbeat_timeout"), this.#timings, now);
    this.#watch();
    const { schemaHash } = this.#options;
    const opening = this.#opening;
    this.#opening = null;
    opening?.resolve();
    // A server that names none is of no other.
    const schema = hello["schema"] ?? schemaHash;
    this.#change("open", { outdated: schemaHash !== undefined && schema !== schemaHash });
  }

  // Life.

  #watch(): void {
    const liveness = this.#liveness;
    if (!liveness) return;
    this.#setTimer(Math.max(0, liveness.due - this.#environment.now()), () =>
      this.#judge(liveness.check(this.#environment.now())),
    );
  }

  #judge(verdict: Verdict): void {
    if (verdict === "dead") {
      // Its close event would come minutes later, or never.
      this.#end("dead", null, "nothing was heard for too long");
      return;
    }
    if (verdict === "ask") this.write(encode("wsrt.ping", {}));
    this.#watch();
  }

  // The way down.

  #end(kind: ReasonKind, code: number | null, text: string): void {
    const now = this.#environment.now();
    const wasOpen = this.isOpen;
    const hint = this.#hint;
    this.#backoff.ended(wasOpen ? now - this.#openedAt : null);
    this.#drop();
    const reason: Reason = { kind, code, text };
    const reconnect = kind === "server" && code !== null ? reconnectFor(code, text, this.#status.outdated) : "backoff";
    if (reconnect === "never") {
      this.#close(reason);
    } else if (reconnect === "auth" && !this.#credentials.isRefreshable) {
      this.#close({ ...reason, kind: "unauthorized" });
    } else if (kind === "page") {
      if (hint !== null) this.#name(hint);
      this.#park();
    } else {
      if (reconnect === "auth") this.#credentials.refuse();
      const kept = reconnect === "auth" ? null : hint;
      const isLost = wasOpen && ["network", "dead", "offline"].includes(kind);
      const delayMs = this.#backoff.next(reconnect, kept, isLost);
      if (kept !== null || reconnect === "later") this.#name(delayMs);
      this.#schedule(reason, delayMs);
    }
  }

  /** The server does not want us back before. */
  #name(delayMs: number): void {
    this.#named = { delayMs, at: this.#environment.now() + delayMs };
  }

  /** Forget the socket and everything about it. */
  #drop(code?: number): void {
    this.#dials += 1;
    this.#stopTimer();
    const link = this.#connection;
    this.#connection = this.#liveness = this.#hint = null;
    if (!link) return;
    link.drop(code);
    this.#listener.lost();
  }

  #schedule(reason: Reason | null, delayMs: number): void {
    this.#setTimer(delayMs, () => this.#retry());
    const at = this.#environment.now() + delayMs;
    this.#change("waiting", { reason, retry: { attempt: this.#backoff.attempt, delayMs, at } });
  }

  #retry(): void {
    const hidden = this.#hiddenSince;
    // Nobody looks at it: no use to dial all night.
    if (hidden !== null && this.#environment.now() - hidden >= this.#timings.hiddenAfterMs) this.#park();
    else this.#dial();
  }

  #park(): void {
    this.#stopTimer();
    this.#isParked = true;
    this.#change("waiting", { reason: { kind: "page", code: null, text: "" } });
  }

  #close(reason: Reason): void {
    this.#drop();
    this.#credentials.forget();
    this.#leavePage?.();
    this.#leavePage = null;
    const text = `the connection is closed: ${reason.text || reason.kind}${reason.code === null ? "" : ` (${reason.code})`}`;
    const error = reason.kind === "unauthorized" ? new UnauthorizedError(text) : new ConnectionError(text);
    const opening = this.#opening;
    this.#opening = null;
    opening?.reject(error);
    this.#listener.closed(error);
    this.#change("closed", { reason });
  }

  // The page.

  #enterPage(): void {
    const { page } = this.#environment;
    if (!page) return;
    this.#hiddenSince = page.isHidden ? this.#environment.now() : null;
    this.#leavePage ??= page.subscribe((signal) => this.#signal(signal));
  }

  #signal(signal: PageSignal): void {
    switch (signal) {
      case "freeze":
        return;
      case "hidden":
        this.#hiddenSince ??= this.#environment.now();
        return;
      case "offline":
        if (this.#connection) this.#end("offline", null, "");
        return;
      case "pagehide":
        // Without a code: the server grants a grace, for it may be this site's next page that comes. A socket that stays
        // open would keep the page out of the back/forward cache.
        if (!this.#isParked) this.#end("page", null, "");
        return;
      case "visible":
        this.#hiddenSince = null;
        break;
      default:
    }
    this.#wake(signal);
  }

  #wake(signal: PageSignal): void {
    const { state, reason, retry } = this.#status;
    const now = this.#environment.now();
    const named = this.#named;
    if (this.#liveness) {
      this.#judge(this.#liveness.wake(now));
    } else if (state === "waiting" && (this.#isParked ? signal !== "online" : !named)) {
      this.#isParked = false;
      this.#backoff.attempt = Math.max(1, this.#backoff.attempt);
      // Not for longer than it was: the clock may have been set back.
      const namedMs = named ? Math.min(named.at - now, named.delayMs) : 0;
      if (namedMs > 0) return this.#schedule(reason, namedMs);
      this.#named = null;
      const jumpMs = this.#backoff.jump();
      if (!retry || jumpMs < retry.at - now) this.#schedule(reason, jumpMs);
    }
  }

  // What it is like now.

  #change(state: State, details: Partial<Status> = {}): void {
    const { outdated } = this.#status;
    const status: Status = Object.freeze({ reason: null, retry: null, outdated, ...details, state });
    this.#status = status;
    if (state === "open") this.#listener.opened();
    // What was just told may have changed it again.
    if (this.#status === status) this.#listener.changed(status);
  }

  #setTimer(ms: number, run: () => void): void {
    this.#stopTimer();
    this.#timer = this.#environment.setTimeout(run, ms);
  }

  #stopTimer(): void {
    if (this.#timer !== null) this.#environment.clearTimeout(this.#timer);
    this.#timer = null;
  }
}

function newOpening(): Opening {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((onOpen, onError) => {
    resolve = onOpen;
    reject = onError;
  });
  // Whoever does not wait for it is told by onState.
  promise.catch(() => {});
  return { promise, resolve, reject };
}
