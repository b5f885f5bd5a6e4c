/**
 * Errors of a client.
 *
 * - WsrtError
 *   - RequestError         the server answered with wsrt.error
 *   - TimeoutError         no answer in time
 *   - ConnectionError      no connection, or lost before the answer: it may or may not have been carried out
 *   - QueueFullError       too much waits already
 *   - QueueExpiredError    waited for too long, and was never sent
 *   - PayloadTooLargeError the server would close the connection for it
 *   - ProtocolError        the server sent what is no frame, or does not speak wsrt.v1
 *   - UnauthorizedError    thrown by getToken: there will be no credentials
 */

/** What is wrong with one field of the data that was sent. */
export interface FieldError {
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  readonly type: string;
}

/** Told of an error; `where` says what failed, such as "a listener of message.sent". */
export type ErrorListener = (error: unknown, where: string) => void;

export class WsrtError extends Error {
  // Set as text, for class names do not survive minifiers.
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
