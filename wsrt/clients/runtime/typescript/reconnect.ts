/** What a client does after a close, by close code and reason. */

import { CLOSE_CODES } from "./close_codes.js";

/**
 * What the client does after a close.
 *
 * - `never`: it doesn't reconnect
 * - `backoff`: reconnects after a random delay that grows with each attempt
 * - `spread`: reconnects at a random time within a window
 * - `auth`: reconnects with new credentials
 * - `later`: reconnects with backoff, after 5 s or more
 */
export type Reconnect = "never" | "backoff" | "spread" | "auth" | "later";

/** A close code, its number on Daphne without with_runtime, its reason, and what the client does after it. */
export type CloseRow = readonly [code: number, fallback: number, reason: string, reconnect: Reconnect];

/** Codes of a server that rejects an unknown event or unexpected data. After a deploy, another server may accept it. */
const MISUNDERSTOOD = [1007, 1008, 4007, 4008];

/**
 * Return the reconnect policy after a close, also for codes that are not in the table.
 *
 * @param code The close code.
 * @param reason The reason in the close frame.
 * @param outdated Whether the server's events differ from the client's. The client then also reconnects after codes that
 *   usually mean that it sent something invalid.
 */
export function reconnectFor(code: number, reason = "", outdated = false): Reconnect {
  if (outdated && MISUNDERSTOOD.includes(code)) return "backoff";
  const rows = CLOSE_CODES.filter((row) => row[0] === code || row[1] === code);
  const row = rows.find((row) => row[2] === reason) ?? rows[0];
  if (row) return row[3];
  return [1002, 1003, 1010].includes(code) || (code >= 4750 && code <= 4999) ? "never" : "backoff";
}

/** Return whether a code means that the connection ended without a close frame. */
export function isNetwork(code: number): boolean {
  return code === 1005 || code === 1006 || code === 1015;
}
