/**
 * Stores: observable values for Svelte (`$status`), Vue (`store.subscribe((value) => (ref.value = value))`) and others.
 */

import type { Client } from "./client.js";
import type { Context, Membership, Name, Presence, Status } from "./types.js";

/**
 * An observable value. subscribe() calls `run` immediately and with every new value, and returns a function that ends
 * this.
 */
export interface Store<Value> {
  subscribe(run: (value: Value) => void): () => void;
}

type AnyClient = Client<any, any, any, any, any>;

/** Return a store of the client's status. */
export function statusStore(client: AnyClient): Store<Status> {
  return storeOf(
    () => client.status,
    (notify) => client.onState(notify),
  );
}

/** Return a store of the client's rooms, which also shows their recovery. Each value is a new map. */
export function roomsStore(client: AnyClient): Store<ReadonlyMap<string, Membership>> {
  return storeOf(
    () => new Map(client.rooms),
    (notify) => {
      const stops = [client.onRoom(notify), client.onRecovered(notify)];
      return () => stops.forEach((stop) => stop());
    },
  );
}

/** Return a store of the members of a room. Its value is null while they aren't known. */
export function presenceStore<MemberData>(
  client: Client<any, any, any, MemberData, any>,
  room: string,
): Store<Presence<MemberData> | null> {
  return storeOf(
    () => client.presence.get(room) ?? null,
    (notify) => client.onPresence((changed) => changed === room && notify()),
  );
}

/**
 * Return a store whose value is computed from events, such as a list of messages. It listens while it has subscribers.
 *
 * @param client The client.
 * @param event The name of the event.
 * @param initial The first value.
 * @param reduce Returns the next value for a value and an event.
 */
export function eventStore<Receives extends object, K extends Name<Receives>, Value>(
  client: Client<Receives, any, any, any, any>,
  event: K,
  initial: Value,
  reduce: (value: Value, data: Receives[K], context: Context) => Value,
): Store<Value> {
  const runs = new Set<() => void>();
  let value = initial;
  let stop: (() => void) | null = null;
  return storeOf(
    () => value,
    (notify) => {
      runs.add(notify);
      stop ??= client.on(event, (data, context) => {
        value = reduce(value, data, context);
        const failures: unknown[] = [];
        for (const run of [...runs]) {
          try {
            if (runs.has(run)) run();
          } catch (error) {
            failures.push(error); // the other subscribers still get the value
          }
        }
        if (failures.length > 0) throw failures[0];
      });
      return () => {
        runs.delete(notify);
        if (runs.size > 0) return;
        stop?.();
        stop = null;
      };
    },
  );
}

function storeOf<Value>(read: () => Value, listen: (notify: () => void) => () => void): Store<Value> {
  return {
    subscribe(run) {
      // Each subscription has its own function, because the same one may subscribe twice.
      const stop = listen(() => run(read()));
      run(read());
      return stop;
    },
  };
}

