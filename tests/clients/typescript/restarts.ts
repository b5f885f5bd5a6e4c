/**
 * Clients that ask all the time, for test_restarts.py: `node restarts.js URL CLIENTS`.
 *
 * Each line on standard input is answered by a line on standard output: who is open, how many answers each has had, and how
 * requests ended. At the end of the input everybody closes.
 */

import { createInterface } from "node:readline";

import { WebSocket as WsWebSocket } from "ws";

import { Client } from "../../../wsrt/clients/runtime/typescript/index.js";

const [, , url, count] = process.argv as unknown as [string, string, string, string];
const TIMEOUT_MS = 5000;
const timings = { baseMs: 100, capMs: 1000, minMs: 50 };

const ended: Record<string, number> = {};
let asked = 0;
let longestMs = 0;
let isDone = false;

const note = (what: string): void => void (ended[what] = (ended[what] ?? 0) + 1);

class Asking {
  readonly client: Client;
  answers = 0;

  constructor(number: number) {
    this.client = new Client(`${url}?client=${number}`, {
      timings,
      onError: (error) => note(`reported ${String(error)}`),
      WebSocket: globalThis.WebSocket ?? WsWebSocket,
    });
  }

  async run(): Promise<void> {
    await this.client.connect();
    for (let value = 1; !isDone; value += 1) {
      asked += 1;
      const begun = performance.now();
      try {
        // Every other one waits for a connection.
        const answer = await this.client.request("ask", { value }, { timeout: TIMEOUT_MS, queue: value % 2 === 0 });
        note(answer.value === value ? "answered" : "answered wrongly");
        this.answers += 1;
      } catch (error) {
        note(error instanceof Error ? error.name : String(error));
      }
      longestMs = Math.max(longestMs, performance.now() - begun);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

const everybody = Array.from({ length: Number(count) }, (_, number) => new Asking(number));
const runs = everybody.map((each) => each.run());

const tell = (): void =>
  console.log(
    JSON.stringify({
      open: everybody.filter(({ client }) => client.state === "open").length,
      answers: everybody.map(({ answers }) => answers),
      ended,
      asked,
      longest: longestMs / 1000,
    }),
  );

for await (const _ of createInterface({ input: process.stdin })) tell();
isDone = true;
await Promise.all(runs);
tell();
for (const { client } of everybody) client.close();
