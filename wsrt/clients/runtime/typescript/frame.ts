/** Frames: encoding and decoding of events as JSON text. */

import { ProtocolError } from "./errors.js";
import type { Position } from "./types.js";

/** A decoded frame. */
export interface Frame {
  readonly event: string;
  readonly data: unknown;
  /** The reference of the request that the frame answers. */
  readonly ref: string | number | null;
  /** The room that the event was published to. Null if it wasn't published to a single room. */
  readonly room: string | null;
  /** The event's position in the room's history. Null if there is no history. */
  readonly epoch: string | null;
  readonly offset: number | null;
}

/** Return the text of a frame. Throws TypeError if the data can't be written as JSON. */
export function encode(event: string, data: unknown, ref: string | number | null = null): string {
  // {} stands for no data. JSON.stringify would omit a key whose value is undefined.
  return JSON.stringify({ event, data: data === undefined ? {} : data, ...(ref === null ? {} : { ref }) });
}

/** Decode a frame, ignoring unknown keys. Throws ProtocolError. */
export function decode(text: string): Frame {
  let value: Partial<Record<keyof Frame, unknown>> | null;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value !== "object" || typeof value?.event !== "string") {
    throw new ProtocolError(`the server sent an invalid frame: ${text.slice(0, 100)}`);
  }
  const { event, data, ref, room } = value;
  const position = positionOf(value);
  return {
    event,
    data,
    ref: typeof ref === "string" || typeof ref === "number" ? ref : null,
    room: typeof room === "string" ? room : null,
    epoch: position?.epoch ?? null,
    offset: position?.offset ?? null,
  };
}

/** Return the position in an object. Null if it has none. An offset without an epoch isn't a position. */
export function positionOf({ epoch, offset }: { epoch?: unknown; offset?: unknown }): Position | null {
  return typeof epoch === "string" && isCount(offset) ? { epoch, offset } : null;
}

/** Return whether a value is a number of things, exactly. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Return data if it is an object, and an empty object otherwise. */
export function fields(data: unknown): Record<string, unknown> {
  return typeof data === "object" && data !== null ? (data as Record<string, unknown>) : {};
}
