/**
 * The errors of the client.
 *
 * - WsrtError
 *   - RequestError         the server refused a request
 *   - TimeoutError         the server didn't answer a request in time
 *   - ConnectionError      there is no connection, or it was lost before the answer arrived
 *   - QueueFullError       too many events are waiting for a connection
 *   - QueueExpiredError    an event waited too long for a connection, and was not sent
 *   - PayloadTooLargeError an event is larger than the server accepts
 *   - ProtocolError        the server sent an invalid frame, or doesn't support wsrt.v1
 *   - UnauthorizedError    thrown by getToken when there are no credentials, and retrying is useless
 */

/** A validation error of one field. */
export interface FieldError {
  /** The path to the field within the event's data. */
  readonly loc: readonly (string | number)[];
  /** A message for humans. */
  readonly msg: string;
  /** An identifier for programs, such as "string_too_long". */
  readonly type: string;
}

/** A function that receives errors. `where` names the place, such as "a listener of message.sent". */
export type ErrorListener = (error: unknown, where: string) => void;

export class WsrtError extends Error {
  // Set explicitly, because minifiers rename classes.
  override readonly name: string = "WsrtError";
}

export class RequestError extends WsrtError {
  override readonly name = "RequestError";
  readonly code: string;
  readonly errors: readonly FieldError[];

  constructor(code: string, message: string, errors: readonly FieldError[] = []) {
    super(message);
    this.code = code;
    this.errors = errors;
  }
}

export class TimeoutError extends WsrtError {
  override readonly name = "TimeoutError";
}

export class ConnectionError extends WsrtError {
  override readonly name = "ConnectionError";
}

export class QueueFullError extends WsrtError {
  override readonly name = "QueueFullError";
}

export class QueueExpiredError extends WsrtError {
  override readonly name = "QueueExpiredError";
}

export class PayloadTooLargeError extends WsrtError {
  override readonly name = "PayloadTooLargeError";
}

export class ProtocolError extends WsrtError {
  override readonly name = "ProtocolError";
}

export class UnauthorizedError extends WsrtError {
  override readonly name = "UnauthorizedError";
}
