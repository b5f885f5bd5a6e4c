/** The runtime that all generated clients share. */

export { Client } from "./client.js";
export { reconnectFor, type CloseRow, type Reconnect } from "./reconnect.js";
export { CLOSE_CODES } from "./close_codes.js";
export type { Environment, Socket, SocketClass, Timer } from "./environment.js";
export {
  ConnectionError,
  PayloadTooLargeError,
  ProtocolError,
  QueueExpiredError,
  QueueFullError,
  RequestError,
  TimeoutError,
  UnauthorizedError,
  WsrtError,
  type ErrorListener,
  type FieldError,
} from "./errors.js";
export type { Page, PageSignal } from "./page.js";
export { pathOf, type PathParameter, type PathParameters } from "./paths.js";
export type {
  Address,
  AnyEvents,
  ClientOptions,
  Context,
  Member,
  Membership,
  Name,
  Position,
  Presence,
  QueueLimits,
  Reason,
  ReasonKind,
  Recovery,
  RequestOptions,
  Rest,
  Retry,
  SendOptions,
  SendResult,
  State,
  Status,
  Subscription,
  SubscriptionState,
  TicketRequest,
  Timings,
} from "./types.js";
