/**
 * Stores: values that change, for Svelte (`$status`), Vue (`store.subscribe((value) => (ref.value = value))`) and others.
 */

import type { Client } from "./client.js";
import type { Context, Membership, Name, Presence, Status } from "./types.js";

/** subscribe() calls `run` at once and with every new value, until the function that it returns is called. */
export interface Store<Value> {
  subscribe(run: (value: Value) => void): () => void;
}

type AnyClient = Client<any, any, any, any>;

/** The state of the connection. */
export function statusStore(client: AnyClient): Store<Status> {
  return storeOf(
    () => client.status,
    (tell) => client.onState(tell),
  );
}

/** The rooms of the client; each value is a new map. */
export function roomsStore(client: AnyClient): Store<ReadonlyMap<string, Membership>> {
  return storeOf(
    () => new Map(client.rooms),
    (tell) => client.onRoom(tell),
  );
}

/** Who is in a room; null while that is not known. */
export function presenceStore<Shown>(client: Client<any, any, any, Shown>, room: string): Store<Presence<Shown> | null> {
  return storeOf(
    () => client.presence.get(room) ?? null,
    (tell) => client.onPresence((changed) => changed === room && tell()),
  );
}

/** What events make of a value, such as a list of the messages so far. It counts from its first subscriber on. */
export function eventStore<Receives extends object, K extends Name<Receives>, Value>(
  client: Client<Receives, any, any, any>,
  event: K,
  initial: Value,
  reduce: (value: Value, data: Receives[K], context: Context) => Value,
): Store<Value> {
  const runs = new Set<() => void>();
  let value = initial;
  let stop: (() => void) | null = null;
  return storeOf(
    () => value,
    (tell) => {
      runs.add(tell);
      stop ??= client.on(event, (data, context) => {
        value = reduce(value, data, context);
        const failures: unknown[] = [];
        for (const run of [...runs]) {
          try {
            if (runs.has(run)) run();
          } catch (error) {
            failures.push(error); // the others get the value all the same
          }
        }
        if (failures.length > 0) throw failures[0];
      });
      return () => {
        runs.delete(tell);
        if (runs.size > 0) return;
        stop?.();
        stop = null;
      };
    },
  );
}

function storeOf<Value>(read: () => Value, listen: (tell: () => void) => () => void): Store<Value> {
  return {
    subscribe(run) {
      // Each its own function: the same one may subscribe twice.
      const stop = listen(() => run(read()));
      run(read());
      return stop;
    },
  };
}

