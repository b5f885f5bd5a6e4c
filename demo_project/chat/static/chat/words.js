/** What people read about errors and closes. The texts of the client and of Pydantic are for developers. */

const ERRORS = {
  ConnectionError: "There is no connection at the moment.",
  QueueExpiredError: "There was no connection for too long.",
  QueueFullError: "Too many messages are waiting already.",
  TimeoutError: "The server didn't answer.",
  PayloadTooLargeError: "It is too long.",
};

const REFUSALS = {
  forbidden: "You may not do that here.",
  rate_limited: "That was too fast. Wait a moment.",
};

/**
 * Return the reason why a request failed.
 *
 * @param error The error with which the request was rejected.
 * @param rules The rule of each field, by its name.
 */
export function explain(error, rules = {}) {
  const [field] = error.errors ?? [];
  if (field) return explainField(field, rules);
  return ERRORS[error.name] ?? REFUSALS[error.code] ?? "The server couldn't handle it. Try again later.";
}

/** The types of Pydantic's errors whose text the rule of the field replaces. Django's errors are written for people. */
const REPLACED = ["missing", "string_too_long", "string_too_short", "string_type"];

/** Return the reason why a field was refused. */
export function explainField({ loc, msg, type }, rules) {
  return (REPLACED.includes(type) && rules[loc[0]]) || msg;
}

const CLOSES = {
  4403: "This room is for members only.",
  4404: "This room doesn't exist any more.",
  4410: "An operator has disconnected you.",
};

/** Return the reason why the client is closed. */
export function explainClose({ kind, code, text }) {
  if (kind === "unauthorized") return "You are signed out. Load the page again to sign in.";
  return CLOSES[code] ?? `The connection was closed: ${text || `code ${code}`}.`;
}
