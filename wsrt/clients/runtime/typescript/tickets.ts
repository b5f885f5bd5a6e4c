/** Tickets: credentials for one connection, issued by the server's TicketView. */

import { socketUrl, type Environment } from "./environment.js";
import { UnauthorizedError } from "./errors.js";
import type { ClientOptions } from "./types.js";

/** The longest time to wait because an answer says so: an intermediary may ask for hours. */
const MAX_RETRY_AFTER_MS = 300_000;

/**
 * Request a ticket for the path of a socket's URL. Return null if the URL isn't valid, which is reported on connecting.
 *
 * Rejects with UnauthorizedError if the server refuses the user, and with any other error if the request failed. If
 * the answer says how long to wait, the error has `retryAfterMs`.
 */
export async function requestTicket(
  ticketUrl: string,
  address: string,
  { ticketRequest }: ClientOptions,
  { fetch, csrfToken }: Environment,
): Promise<string | null> {
  const path = pathname(address);
  if (path === null) return null;
  const { headers, credentials } = (typeof ticketRequest === "function" ? await ticketRequest() : ticketRequest) ?? {};
  const csrf = csrfToken(ticketUrl);
  const response = await fetch(ticketUrl, {
    method: "POST",
    body: `path=${encodeURIComponent(path)}`,
    headers: {
      "Content-Type": "application/x-www-form-urlencoded",
      ...(csrf === null ? {} : { "X-CSRFToken": csrf }),
      ...headers,
    },
    credentials: credentials ?? "same-origin",
    // A redirect, such as one to the login page, isn't a ticket.
    redirect: "error",
  });
  const { status } = response;
  if (status === 401 || status === 403) throw new UnauthorizedError(`no ticket: the server answered ${status}`);
  if (status !== 200) {
    const error = new Error(`no ticket: the server answered ${status}`);
    throw Object.assign(error, { retryAfterMs: millisecondsOf(response.headers.get("Retry-After")) });
  }
  const { ticket } = (await response.json()) as { ticket?: unknown };
  if (typeof ticket !== "string") throw new Error("no ticket: the answer has none");
  return ticket;
}

/** Return the milliseconds of a header Retry-After; 0 if there is none, or if it has a date. */
function millisecondsOf(header: string | null): number {
  return header && /^\d+$/.test(header) ? Math.min(Number(header) * 1000, MAX_RETRY_AFTER_MS) : 0;
}

function pathname(address: string): string | null {
  try {
    return /^\w+:\/\/[^/?#]+([^?#]*)/.exec(socketUrl(address))?.[1] || "/";
  } catch {
    return null;
  }
}
