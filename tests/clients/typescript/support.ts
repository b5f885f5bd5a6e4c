/** A clock, sockets and a page that do what a test says. */

import assert from "node:assert/strict";

import { Client } from "../../../wsrt/clients/runtime/typescript/client.js";
import type { Page, PageSignal } from "../../../wsrt/clients/runtime/typescript/page.js";
import type { ClientOptions, Retry, Status, Timings } from "../../../wsrt/clients/runtime/typescript/types.js";

interface FakeTimer {
  readonly at: number;
  readonly run: () => void;
}

/** Time passes when a test says so. */
export class FakeClock {
  now = 1_000_000;
  #timers = new Set<FakeTimer>();

  setTimeout = (run: () => void, ms: number): unknown => {
    assert.ok(ms >= 0 && ms < 2 ** 31, `a timer of ${ms} ms`);
    const timer = { at: this.now + ms, run };
    this.#timers.add(timer);
    return timer;
  };

  clearTimeout = (timer: unknown): void => {
    this.#timers.delete(timer as FakeTimer);
  };

  get timers(): number {
    return this.#timers.size;
  }

  /** Let time pass, timers in their order. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const next = [...this.#timers].filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.now = Math.max(this.now, next.at);
      this.#timers.delete(next);
      next.run();
      await settle();
    }
    this.now = end;
  }

  /** Stand still for a while, as a frozen tab or a laptop that sleeps: what was due comes late, all at once. */
  async freeze(ms: number): Promise<void> {
    this.now += ms;
    await this.advance(0);
  }
}

/** Let what was promised happen. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
}

export class FakeSocket {
  protocol = "";
  bufferedAmount = 0;
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: any) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  onclose: ((event: any) => void) | null = null;
  readonly sent: any[] = [];
  /** The code of our close; null where none was named. */
  closedWith: number | null | undefined;

  readonly url: string;
  readonly protocols: string[];

  constructor(url: string, protocols: string[]) {
    this.url = url;
    this.protocols = protocols;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code?: number): void {
    this.closedWith = code ?? null;
  }

  /** The server accepts. */
  accept(protocol = "wsrt.v1"): void {
    this.protocol = protocol;
    this.onopen?.({});
  }

  hello(data: object = {}): void {
    this.receive("wsrt.hello", { heartbeat: 25, heartbeat_timeout: 10, max_payload: 65536, schema: "a", ...data });
  }

  receive(event: string, data: unknown = {}, beside: object = {}): void {
    this.onmessage?.({ data: JSON.stringify({ event, data, ...beside }) });
  }

  /** It ends, with a close frame of the server or without one. */
  end(code = 1006, reason = ""): void {
    this.onclose?.({ code, reason });
  }

  /** Return the frames that were sent with an event name. */
  named(event: string): any[] {
    return this.sent.filter((frame) => frame.event === event);
  }

  get isLive(): boolean {
    return this.closedWith === undefined;
  }
}

export class FakePage implements Page {
  isHidden = false;
  readonly listeners = new Set<(signal: PageSignal) => void>();

  subscribe(listener: (signal: PageSignal) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  signal(signal: PageSignal): void {
    if (signal === "hidden") this.isHidden = true;
    if (signal === "visible") this.isHidden = false;
    for (const listener of [...this.listeners]) listener(signal);
  }
}

export interface WorldOptions extends Omit<ClientOptions, "timings"> {
  timings?: Partial<Timings>;
  /** What chance says; 1 makes delays as long as they get. */
  random?: () => number;
  url?: ConstructorParameters<typeof Client>[0];
}

/** A client, and all that is around it. */
export class World {
  readonly clock = new FakeClock();
  readonly page = new FakePage();
  readonly sockets: FakeSocket[] = [];
  readonly errors: [string, string][] = [];
  readonly statuses: Status[] = [];
  readonly client: Client;

  constructor({ random = () => 1, url = "ws://test/chat/", ...options }: WorldOptions = {}) {
    const sockets = this.sockets;
    this.client = new Client(url, {
      onError: (error, where) => this.errors.push([String(error), where]),
      WebSocket: class extends FakeSocket {
        constructor(url: string, protocols: string[]) {
          super(url, protocols);
          sockets.push(this);
        }
      },
      ...options,
      environment: {
        now: () => this.clock.now,
        random,
        setTimeout: this.clock.setTimeout,
        clearTimeout: this.clock.clearTimeout,
        page: this.page,
        ...options.environment,
      },
    });
    this.client.onState((status) => this.statuses.push(status));
  }

  /** The latest socket. */
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    assert.ok(socket, "nothing was dialed");
    return socket;
  }

  /** Connect, be accepted and greeted. */
  open(hello: object = {}): FakeSocket {
    void this.client.connect();
    return this.welcome(hello);
  }

  /** Accept and greet the socket that was dialed. */
  welcome(hello: object = {}): FakeSocket {
    this.socket.accept();
    this.socket.hello(hello);
    return this.socket;
  }

  get retry(): Retry {
    const { retry } = this.client.status;
    assert.ok(retry, `no retry is scheduled: ${JSON.stringify(this.client.status)}`);
    return retry;
  }

  /** Let the retry come that is scheduled. */
  async retried(): Promise<FakeSocket> {
    const before = this.sockets.length;
    await this.clock.advance(this.retry.delayMs);
    assert.equal(this.sockets.length, before + 1);
    return this.socket;
  }
}
