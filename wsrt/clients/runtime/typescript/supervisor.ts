/**
 * The supervisor of a client's connection: a client without types.
 *
 * It keeps one connection alive: it connects, answers pings, and reconnects. A second socket is never opened before the
 * first one is closed, or has been given `closeTimeoutMs` to close.
 */

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
import { Renewal } from "./renewal.js";
import { requestTicket } from "./tickets.js";
import type { Address, ClientOptions, Reason, ReasonKind, Retry, State, Status, Timings } from "./types.js";

export const SUBPROTOCOL = "wsrt.v1";

/** The characters that a subprotocol may have (RFC 9110, 5.6.2). */
const SUBPROTOCOL_NAME = /^[\w!#$%&'*+.^`|~-]+$/;

/** Receives the frames and events of a connection. */
export interface SupervisorListener {
  /** Return the positions by room, as wsrt.resume sends them. */
  positions(): unknown;
  /** Called after the server's hello: events can be written now. */
  opened(): void;
  /** Called for each frame that the supervisor doesn't handle itself. Errors are reported as errors of the server. */
  received(frame: Frame): void;
  /** Called when the connection is lost, before the change of the state. Pending requests won't be answered. */
  lost(): void;
  /** Called when the client is closed and won't reconnect. */
  closed(error: Error): void;
  /** Send a request to the open connection. Return the data of its answer. */
  request(event: string, data: unknown): Promise<unknown>;
  /** Called when the status has changed. */
  changed(status: Status): void;
}

interface Opening {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class Supervisor {
  /** The size of the largest frame that the server accepts, in bytes. Infinite before its hello. */
  maxPayload = Infinity;

  readonly #address: Address;
  readonly #options: ClientOptions;
  readonly #timings: Timings;
  readonly #environment: Environment;
  readonly #listener: SupervisorListener;
  readonly #report: ErrorListener;
  readonly #backoff: Backoff;
  readonly #credentials: Credentials;
  readonly #renewal: Renewal;

  #status: Status = Object.freeze({ state: "closed", reason: null, outdated: false, retry: null });
  #opening: Opening | null = null;
  #connection: Connection | null = null;
  // The connection that close() is ending. Connecting before the server has answered would make two connections.
  #closing: Connection | null = null;
  #liveness: Liveness | null = null;
  // One timer at a time: for the retry, the handshake, the hello, or the check for a dead connection.
  #timer: Timer | null = null;
  // The number of the current attempt to connect. Results of older attempts are ignored.
  #dials = 0;
  #openedAt = 0;
  // The delay that the server asked for in wsrt.closing, in milliseconds.
  #retryAfterMs: number | null = null;
  // The earliest time of the next attempt, if the server set one. No page event makes it earlier.
  #earliest: Omit<Retry, "attempt"> | null = null;
  // Set while the client doesn't reconnect until the page is visible again.
  #isPaused = false;
  #hiddenSince: number | null = null;
  #unsubscribePage: (() => void) | null = null;

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
    if (options.ticketUrl !== undefined && (options.token || options.getToken)) {
      throw new TypeError("a client has a ticketUrl, or a token or getToken, not both");
    }
    this.#credentials = new Credentials(options.token, options.getToken);
    this.#renewal = new Renewal(this.#credentials, timings, environment, {
      send: (token) => listener.request(options.loginEvent!, { token }),
      failed: (error) => report(error, "renewing the token"),
      signedOut: ({ message }) => this.#finish({ kind: "unauthorized", code: null, text: message }),
    });
  }

  get status(): Status {
    return this.#status;
  }

  get isOpen(): boolean {
    return this.#status.state === "open";
  }

  /** The number of unsent bytes in the socket. */
  get buffered(): number {
    return this.#connection?.buffered ?? 0;
  }

  /** Connect, unless connecting already. Return a promise that resolves when the connection is open. */
  connect(): Promise<void> {
    const { state } = this.#status;
    if (state === "open") return Promise.resolve();
    const opening = (this.#opening ??= newOpening());
    if (state === "closed") {
      this.#backoff.attempt = 0;
      this.#subscribePage();
    }
    if (state !== "connecting") this.#dial();
    return opening.promise;
  }

  /** Close the client. It doesn't reconnect. */
  close(): void {
    if (this.#status.state === "closed") return;
    this.#closing = this.#connection ?? this.#closing;
    this.#dropConnection(1000);
    this.#finish({ kind: "client", code: null, text: "" });
  }

  /** Write a frame to the open connection. */
  write(text: string): void {
    this.#connection?.send(text);
  }

  // Connecting.

  #dial(): void {
    this.#stopTimer();
    this.#isPaused = false;
    this.#earliest = null;
    const dial = (this.#dials += 1);
    this.#change("connecting");
    if (dial !== this.#dials) return; // a listener closed the client
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

  /** Request the token or ticket and the URL, and open the connection. */
  #prepare(dial: number): void {
    const textOf = (address: string | { href: string }) => (typeof address === "string" ? address : address.href);
    const open = (token: string | null, address: string | { href: string }) => {
      if (dial === this.#dials) this.#open(token, textOf(address));
    };
    const fail = (error: unknown) => {
      if (dial === this.#dials) this.#prepareFailed(error);
    };
    // Set before the functions are called, because they may close the client.
    this.#setTimer(this.#timings.connectTimeoutMs, () => {
      this.#credentials.abandon();
      fail(new TimeoutError("no token, ticket or URL in time"));
    });
    try {
      const { ticketUrl } = this.#options;
      let token = ticketUrl === undefined ? this.#credentials.get() : null;
      const address = typeof this.#address === "function" ? this.#address() : this.#address;
      if (ticketUrl !== undefined) {
        token = (async () => requestTicket(ticketUrl, textOf(await address), this.#options, this.#environment))();
      }
      if (isPromise(token) || isPromise(address)) {
        Promise.all([token, address]).then(([token, address]) => open(token, address), fail);
      } else {
        open(token, address);
      }
    } catch (error) {
      fail(error);
    }
  }

  /** Handle an error of the request for a ticket, or of the functions that return the token and the URL. */
  #prepareFailed(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    // Compared by name, because an application may have bundled the class twice.
    if (error instanceof Error && error.name === "UnauthorizedError") {
      this.#finish({ kind: "unauthorized", code: null, text });
    } else {
      this.#report(error, "getToken, the request for a ticket, or the URL function");
      this.#end("token", null, text, (error as { retryAfterMs?: number } | null)?.retryAfterMs);
    }
  }

  #open(token: string | null, address: string): void {
    const { bearer, loginEvent } = this.#options;
    const isInFrame = bearer === "frame" && this.#options.ticketUrl === undefined;
    const protocols = [SUBPROTOCOL, ...(this.#options.protocols ?? [])];
    if (token !== null && !isInFrame) {
      protocols.push(`${this.#options.ticketUrl === undefined ? "bearer" : "ticket"}.${token}`);
    }
    const login = token !== null && isInFrame && loginEvent ? encode(loginEvent, { token }) : null;
    const { WebSocket } = this.#environment;
    try {
      if (isInFrame && !loginEvent) throw new TypeError("the consumer has no login event that could send the token");
      // Checked here, because the error of a browser would contain the token.
      if (token !== null && !isInFrame && !SUBPROTOCOL_NAME.test(token)) {
        throw new TypeError("the token has characters that a subprotocol can't have; base64url without padding is valid");
      }
      if (!WebSocket) throw new TypeError("there is no global WebSocket: pass a class as the option WebSocket");
      this.#connection = new Connection(WebSocket, socketUrl(address), protocols, {
        opened: () => this.#opened(login),
        received: (text) => this.#received(text),
        ended: (code, reason) => this.#end(isNetwork(code) ? "network" : "server", code, reason),
      });
    } catch (error) {
      this.#report(error, "connecting");
      this.#finish({ kind: "invalid", code: null, text: error instanceof Error ? error.message : String(error) });
      return;
    }
    this.#setTimer(this.#timings.connectTimeoutMs, () => this.#end("timeout", null, "no handshake in time"));
  }

  #opened(login: string | null): void {
    if (this.#connection?.protocol !== SUBPROTOCOL) {
      const text = `the server doesn't support ${SUBPROTOCOL}`;
      this.#report(new ProtocolError(text), "connecting");
      this.#end("network", null, text);
      return;
    }
    if (login !== null) this.write(login);
    this.write(encode("wsrt.resume", this.#listener.positions()));
    this.#setTimer(this.#timings.helloTimeoutMs, () => this.#end("timeout", null, "no hello in time"));
  }

  // Frames.

  #received(text: string): void {
    this.#liveness?.received(this.#environment.now());
    try {
      this.#handleFrame(decode(text));
    } catch (error) {
      // Never throw in an event handler of the socket: the error would end a Node process.
      const what = `the server sent a frame that can't be handled: ${text.slice(0, 100)} (${error})`;
      this.#report(error instanceof ProtocolError ? error : new ProtocolError(what), "receiving");
    }
  }

  #handleFrame(frame: Frame): void {
    switch (frame.event) {
      case "wsrt.ping":
        this.write(encode("wsrt.pong", {}, frame.ref));
        return;
      case "wsrt.pong":
        return;
      case "wsrt.hello":
        this.#handleHello(fields(frame.data));
        return;
      case "wsrt.closing": {
        const hint = fields(frame.data)["retry_after_ms"];
        if (Number.isFinite(hint) && (hint as number) >= 0) this.#retryAfterMs = hint as number;
        return;
      }
      default:
        this.#listener.received(frame);
    }
  }

  #handleHello(hello: Record<string, unknown>): void {
    if (this.isOpen) return;
    const numberOf = (key: string) => (typeof hello[key] === "number" ? hello[key] : null);
    const now = this.#environment.now();
    this.maxPayload = numberOf("max_payload") ?? Infinity;
    this.#openedAt = now;
    this.#liveness = new Liveness(numberOf("heartbeat"), numberOf("heartbeat_timeout"), this.#timings, now);
    this.#scheduleCheck();
    const { schemaHash, loginEvent } = this.#options;
    if (loginEvent && this.#credentials.canRefresh) this.#renewal.start(hello["expires_in"]);
    const opening = this.#opening;
    this.#opening = null;
    opening?.resolve();
    // A server that sends no hash isn't considered different.
    const schema = hello["schema"] ?? schemaHash;
    this.#change("open", { outdated: schemaHash !== undefined && schema !== schemaHash });
  }

  // Detecting a dead connection.

  #scheduleCheck(): void {
    const liveness = this.#liveness;
    if (!liveness) return;
    this.#setTimer(Math.max(0, liveness.due - this.#environment.now()), () =>
      this.#apply(liveness.check(this.#environment.now())),
    );
  }

  #apply(verdict: Verdict): void {
    if (verdict === "dead") {
      // The socket's close event would come minutes later, or never.
      this.#end("dead", null, "the server was silent for too long");
      return;
    }
    if (verdict === "ping") this.write(encode("wsrt.ping", {}));
    this.#scheduleCheck();
  }

  // Ending.

  #end(kind: ReasonKind, code: number | null, text: string, laterMs = 0): void {
    const now = this.#environment.now();
    const wasOpen = this.isOpen;
    const hint = this.#retryAfterMs;
    this.#backoff.ended(wasOpen ? now - this.#openedAt : null);
    this.#dropConnection();
    const reason: Reason = { kind, code, text };
    const reconnect = kind === "server" && code !== null ? reconnectFor(code, text, this.#status.outdated) : "backoff";
    if (reconnect === "never") {
      this.#finish(reason);
    } else if (reconnect === "auth" && !this.#credentials.canRefresh && this.#options.ticketUrl === undefined) {
      this.#finish({ ...reason, kind: "unauthorized" });
    } else if (kind === "page") {
      if (hint !== null) this.#holdOff(hint);
      this.#pause();
    } else {
      if (reconnect === "auth") this.#credentials.expire();
      const retryAfterMs = reconnect === "auth" ? null : hint;
      const isLost = wasOpen && ["network", "dead", "offline"].includes(kind);
      if (reconnect === "later") laterMs = this.#timings.laterMs;
      const delayMs = this.#backoff.next(reconnect, retryAfterMs, isLost, laterMs);
      if (retryAfterMs !== null || laterMs > 0) this.#holdOff(delayMs);
      this.#schedule(reason, delayMs);
    }
  }

  /** Don't reconnect for some time, because the server asked for it. */
  #holdOff(delayMs: number): void {
    this.#earliest = { delayMs, at: this.#environment.now() + delayMs };
  }

  /** Drop the socket and reset the state that belongs to it. */
  #dropConnection(code?: number): void {
    this.#dials += 1;
    this.#stopTimer();
    this.#renewal.stop();
    const connection = this.#connection;
    this.#connection = this.#liveness = this.#retryAfterMs = null;
    if (!connection) return;
    connection.drop(code);
    this.#listener.lost();
  }

  #schedule(reason: Reason | null, delayMs: number): void {
    this.#setTimer(delayMs, () => this.#retry());
    const at = this.#environment.now() + delayMs;
    this.#change("waiting", { reason, retry: { attempt: this.#backoff.attempt, delayMs, at } });
  }

  #retry(): void {
    const hidden = this.#hiddenSince;
    // The page has been hidden for long. Don't keep connecting until it is visible again.
    if (hidden !== null && this.#environment.now() - hidden >= this.#timings.hiddenAfterMs) this.#pause();
    else this.#dial();
  }

  #pause(): void {
    this.#stopTimer();
    this.#isPaused = true;
    this.#change("waiting", { reason: { kind: "page", code: null, text: "" } });
  }

  #finish(reason: Reason): void {
    this.#dropConnection();
    this.#credentials.abandon();
    this.#unsubscribePage?.();
    this.#unsubscribePage = null;
    const text = `the connection is closed: ${reason.text || reason.kind}${reason.code === null ? "" : ` (${reason.code})`}`;
    const error = reason.kind === "unauthorized" ? new UnauthorizedError(text) : new ConnectionError(text);
    const opening = this.#opening;
    this.#opening = null;
    opening?.reject(error);
    this.#listener.closed(error);
    this.#change("closed", { reason });
  }

  // The page.

  #subscribePage(): void {
    const { page } = this.#environment;
    if (!page) return;
    this.#hiddenSince = page.isHidden ? this.#environment.now() : null;
    this.#unsubscribePage ??= page.subscribe((signal) => this.#onPageSignal(signal));
  }

  #onPageSignal(signal: PageSignal): void {
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
        // Closed without a code, so that the server waits for the site's next page before it reports the user as gone.
        // An open socket would keep the page out of the back/forward cache.
        if (!this.#isPaused) this.#end("page", null, "");
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
    const earliest = this.#earliest;
    if (this.#liveness) {
      this.#apply(this.#liveness.wake(now));
    } else if (state === "waiting" && (this.#isPaused ? signal !== "online" : !earliest)) {
      this.#isPaused = false;
      this.#backoff.attempt = Math.max(1, this.#backoff.attempt);
      // At most the original delay, because the clock may have been set back.
      const leftMs = earliest ? Math.min(earliest.at - now, earliest.delayMs) : 0;
      if (leftMs > 0) return this.#schedule(reason, leftMs);
      this.#earliest = null;
      const jumpMs = this.#backoff.jump();
      if (!retry || jumpMs < retry.at - now) this.#schedule(reason, jumpMs);
    }
  }

  // The status.

  #change(state: State, details: Partial<Status> = {}): void {
    const { outdated } = this.#status;
    const status: Status = Object.freeze({ reason: null, retry: null, outdated, ...details, state });
    this.#status = status;
    if (state === "open") this.#listener.opened();
    // opened() may have changed the status again.
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
  // Callers that ignore the promise are notified by onState; without this, Node would report an unhandled rejection.
  promise.catch(() => {});
  return { promise, resolve, reject };
}
