/** The driver of tests/clients/DRIVER.md around the client in TypeScript. */

import { createInterface } from "node:readline";

import { WebSocket as WsWebSocket } from "ws";

import {
  Client,
  UnauthorizedError,
  type Membership,
  type Page,
  type PageSignal,
  type Presence,
  type Retry,
  type Timings,
} from "../../../wsrt/clients/runtime/typescript/index.js";
import { historyFrom } from "../../../wsrt/clients/runtime/typescript/history.js";

type Fields = Record<string, any>;

const TIMINGS: Record<string, keyof Timings> = {
  base_ms: "baseMs",
  cap_ms: "capMs",
  min_ms: "minMs",
  jump_ms: "jumpMs",
  later_ms: "laterMs",
  spread_ms: "spreadMs",
  stable_ms: "stableMs",
  connect_timeout_ms: "connectTimeoutMs",
  hello_timeout_ms: "helloTimeoutMs",
  dead_after_ms: "deadAfterMs",
  idle_ms: "idleMs",
  probe_ms: "probeMs",
  renew_ms: "renewMs",
  hidden_after_ms: "hiddenAfterMs",
  request_timeout_ms: "requestTimeoutMs",
  buffer_bytes: "bufferBytes",
};

const QUEUE: Record<string, string> = { queue_items: "items", queue_bytes: "bytes", queue_age_ms: "ageMs" };

function write(kind: string, fields: Fields = {}): void {
  process.stdout.write(`${JSON.stringify({ kind, ...fields })}\n`);
}

function writeError(error: unknown): void {
  write("error", { type: error instanceof Error ? error.name : typeof error, message: String(error) });
}

// The page, as far as commands tell.

const listeners = new Set<(signal: PageSignal) => void>();
let isHidden = false;
const page: Page = {
  get isHidden() {
    return isHidden;
  },
  subscribe(listener) {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  },
};

function signal(event: PageSignal): void {
  if (event === "hidden" || event === "visible") isHidden = event === "hidden";
  for (const listener of [...listeners]) listener(event);
}

// Tokens: values that wait for calls, or calls that wait for values.

const values: (string | null)[] = [];
const calls: ((value: string | null) => void)[] = [];

async function getToken(): Promise<string> {
  write("token");
  const value = values.length ? values.shift()! : await new Promise<string | null>((resolve) => calls.push(resolve));
  if (value === null) throw new UnauthorizedError("the suite says so");
  return value;
}

function giveToken(value: string | null): void {
  const call = calls.shift();
  if (call) call(value);
  else values.push(value);
}

// The client.

function make(url: string, options: Fields): Client {
  const pick = (names: Record<string, string>) =>
    Object.fromEntries(Object.entries(names).flatMap(([from, to]) => (from in options ? [[to, options[from]]] : [])));
  const random: unknown = options["random"];
  const client = new Client(url, {
    ...(options["token"] ? { token: options["token"] } : {}),
    ...(options["get_token"] ? { getToken } : {}),
    ...(options["ticket_url"] ? { ticketUrl: options["ticket_url"] } : {}),
    ...(options["ticket_headers"] ? { ticketRequest: () => ({ headers: options["ticket_headers"] }) } : {}),
    ...(options["schema_hash"] ? { schemaHash: options["schema_hash"] } : {}),
    ...(options["login_event"] ? { loginEvent: options["login_event"] } : {}),
    ...(options["history_url"] ? { history: historyFrom(options["history_url"]) } : {}),
    ...(options["bearer"] ? { bearer: options["bearer"] } : {}),
    protocols: options["protocols"] ?? [],
    timings: pick(TIMINGS),
    queue: pick(QUEUE),
    onError: writeError,
    // Node's own, where it has one: 22 and newer, 20 with --experimental-websocket.
    WebSocket: globalThis.WebSocket ?? WsWebSocket,
    environment: { page, ...(typeof random === "number" ? { random: () => random } : {}) },
  });
  for (const [room, [epoch, offset]] of Object.entries<any>(options["positions"] ?? {})) {
    client.setPosition(room, { epoch, offset });
  }
  let last = "";
  let lastRetry: Retry | null = null;
  client.onState(({ state, reason, outdated, retry }) => {
    const line = { state, reason, outdated };
    if (JSON.stringify(line) !== last) write("state", line);
    last = JSON.stringify(line);
    if (retry && retry !== lastRetry) write("dial", { attempt: retry.attempt, delay_ms: retry.delayMs });
    lastRetry = retry;
  });
  client.onAny((event, data, context) => write("event", { event, data, ...context }));
  client.onRecovered((room, recovery) => write("recovered", { room, ...recovery }));
  client.onForgotten((room, position) => write("forgotten", { room, ...position }));
  client.onRoom((room, membership) => write("room", { room, ...shownRoom(membership) }));
  client.onPresence((room, presence) => presence && write("presence", { room, ...shownPresence(presence) }));
  return client;
}

function shownRoom(membership: Membership | null): Fields {
  if (!membership) return { joined: false, epoch: null, offset: null, recovered: null, reason: null, values_missing: false };
  const { valuesMissing, ...shown } = membership;
  return { ...shown, values_missing: valuesMissing };
}

function shownPresence({ members, count }: Presence): Fields {
  if (!members) return { members, count };
  const key = (user: string | null) => (user === null ? "" : `_${user}`);
  const sorted = [...members.values()].sort((a, b) => (key(a.user_id) < key(b.user_id) ? -1 : 1));
  return { members: sorted, count };
}

let client: Client | null = null;

function current(): Client {
  if (!client) throw new Error("connect first");
  return client;
}

function connect({ url, options = {} }: Fields): void {
  if (url !== undefined) {
    client?.close();
    client = make(url, options);
  }
  // Its end is told by the state.
  current()
    .connect()
    .catch(() => {});
}

function send({ event, data, options = {} }: Fields): void {
  write("sent", { event, result: current().send(event, data, options) });
}

async function request({ id, event, data, options = {} }: Fields): Promise<void> {
  const { timeout_ms: timeout, ...rest } = options;
  try {
    const answer = await current().request(event, data, timeout === undefined ? rest : { ...rest, timeout });
    write("reply", { id, data: answer ?? null });
  } catch (error) {
    const { name, message, code = null } = error as Error & { code?: string };
    write("reply", { id, error: { type: name, code, message } });
  }
}

function rooms(): void {
  const shown = [...current().rooms].map(([room, { joined, epoch, offset }]) => [room, { joined, epoch, offset }]);
  write("rooms", { rooms: Object.fromEntries(shown) });
}

function run(command: Fields): unknown {
  switch (command["op"]) {
    case "connect":
      return connect(command);
    case "send":
      return send(command);
    case "request":
      return request(command);
    case "close":
      return current().close();
    case "page":
      return signal(command["event"]);
    case "token":
      return giveToken(command["value"]);
    case "rooms":
      return rooms();
    case "exit":
      return process.exit(0);
    default:
      return write("unsupported", { op: command["op"] });
  }
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  try {
    run(JSON.parse(line));
  } catch (error) {
    writeError(error);
  }
});
lines.on("close", () => process.exit(0));
write("ready");
