/** Frames: one event as JSON text. */

import { ProtocolError } from "./errors.js";

export interface Frame {
  readonly event: string;
  readonly data: unknown;
  readonly ref: string | number | null;
  readonly room: string | null;
  /** Of a publication that is kept in history. */
  readonly epoch: string | null;
  readonly offset: number | null;
}

/** Return the text of a frame. Throws TypeError for what JSON cannot say. */
export function encode(event: string, data: unknown, ref: string | number | null = null): string {
  // The server takes {} for no data; undefined would leave the key out.
  return JSON.stringify({ event, data: data === undefined ? {} : data, ...(ref === null ? {} : { ref }) });
}

/** Return the frame of a text; unknown keys are ignored. Throws ProtocolError. */
export function decode(text: string): Frame {
  let value: Partial<Record<keyof Frame, unknown>> | null;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value !== "object" || typeof value?.event !== "string") {
    throw new ProtocolError(`the server sent what is no frame: ${text.slice(0, 100)}`);
  }
  const { event, data, ref, room, epoch, offset } = value;
  return {
    event,
    data,
    ref: typeof ref === "string" || typeof ref === "number" ? ref : null,
    room: typeof room === "string" ? room : null,
    epoch: typeof epoch === "string" ? epoch : null,
    offset: typeof offset === "number" ? offset : null,
  };
}

/** Return data as an object, whatever it is. */
export function fields(data: unknown): Record<string, unknown> {
  return typeof data === "object" && data !== null ? (data as Record<string, unknown>) : {};
}
