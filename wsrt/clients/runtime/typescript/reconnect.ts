/** What a client does after a close. */

import { CLOSE_CODES } from "./close_codes.js";

/**
 * - `never`: stays away
 * - `backoff`: comes back after a random time that grows with each attempt
 * - `spread`: over the window that the server hinted
 * - `auth`: with new credentials
 * - `later`: after 5 s or more
 */
export type Reconnect = "never" | "backoff" | "spread" | "auth" | "later";

/** Code, the code on stock Daphne, reason on the wire, policy. */
export type CloseRow = readonly [code: number, fallback: number, reason: string, reconnect: Reconnect];

/** Codes that say that the server did not understand us: another version may. */
const MISUNDERSTOOD = [1007, 1008, 4007, 4008];

/**
 * Return what to do after a close, also after codes that are not in the table.
 *
 * @param outdated whether the server has other events than this client: then it may be another one soon.
 */
export function reconnectFor(code: number, reason = "", outdated = false): Reconnect {
  if (outdated && MISUNDERSTOOD.includes(code)) return "backoff";
  const rows = CLOSE_CODES.filter((row) => row[0] === code || row[1] === code);
  const row = rows.find((row) => row[2] === reason) ?? rows[0];
  if (row) return row[3];
  return [1002, 1003, 1010].includes(code) || (code >= 4750 && code <= 4999) ? "never" : "backoff";
}

/** Return whether a code stands for a socket that ended without a close frame. */
export function isNetwork(code: number): boolean {
  return code === 1005 || code === 1006 || code === 1015;
}
