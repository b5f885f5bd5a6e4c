/**
 * Hooks for React, created from the application's own copy of React:
 *
 *     import * as React from "react";
 *     import { hooks } from "./realtime/runtime/react.js";
 *     export const { useClient, useStatus, useEvent, useRoom, usePresence, useSubscription } = hooks(React);
 */

import type { Client } from "./client.js";
import type { Context, Membership, Name, Presence, Recovery, Status, Subscription, SubscriptionState } from "./types.js";

/** The parts of React that the hooks use. With them, projects without React don't need its types. */
export interface ReactLike {
  useEffect(effect: () => void | (() => void), dependencies?: readonly unknown[]): void;
  useMemo<Value>(make: () => Value, dependencies: readonly unknown[]): Value;
  useRef<Value>(initial: Value): { current: Value };
  useSyncExternalStore<Value>(
    subscribe: (notify: () => void) => () => void,
    read: () => Value,
    readOnServer?: () => Value,
  ): Value;
}

type AnyClient = Client<any, any, any, any, any>;

export interface Hooks {
  /** Return a client that is connected while the component is mounted. It is recreated when a dependency changes. */
  useClient<C extends AnyClient>(make: () => C, dependencies: readonly unknown[]): C;
  /** Return the status of the client. */
  useStatus(client: AnyClient): Status;
  /** Call a listener for each event. It may change with each rendering; the latest one is called. */
  useEvent<Receives extends object, K extends Name<Receives>>(
    client: Client<Receives, any, any, any, any>,
    event: K,
    listener: (data: Receives[K], context: Context) => unknown,
  ): void;
  /** Return a room, with its position and whether missed events are being received; null if the client isn't in it. */
  useRoom(client: AnyClient, room: string): Membership | null;
  /** Call a listener after a reconnect, with whether the client has received the events that it missed in a room. */
  useRecovered(client: AnyClient, room: string, listener: (recovery: Recovery) => unknown): void;
  /** Return the members of a room, or null while they aren't known. */
  usePresence<MemberData>(client: Client<any, any, any, MemberData, any>, room: string): Presence<MemberData> | null;
  /** Be in a room while the component is mounted, shared with other components. Return the state of the subscription. */
  useSubscription<C extends AnyClient>(client: C, room: Parameters<C["subscribe"]>[0]): SubscriptionState;
}

/** Create the hooks from a copy of React. */
export function hooks(react: ReactLike): Hooks {
  const { useEffect, useMemo, useRef, useSyncExternalStore } = react;
  return {
    useClient(make, dependencies) {
      const client = useMemo(make, dependencies);
      useEffect(() => {
        void client.connect();
        return () => client.close();
      }, [client]);
      return client;
    },

    useStatus(client) {
      const subscribe = useMemo(() => (notify: () => void) => client.onState(notify), [client]);
      const read = () => client.status;
      return useSyncExternalStore(subscribe, read, read);
    },

    useEvent(client, event, listener) {
      const latest = useRef(listener);
      useEffect(() => {
        latest.current = listener;
      });
      useEffect(() => client.on(event, (data, context) => latest.current(data, context)), [client, event]);
    },

    useRoom(client, room) {
      const subscribe = useMemo(
        () => (notify: () => void) => {
          const listener = (changed: string) => changed === room && notify();
          const stops = [client.onRoom(listener), client.onRecovered(listener)];
          return () => stops.forEach((stop) => stop());
        },
        [client, room],
      );
      const read = () => client.rooms.get(room) ?? null;
      return useSyncExternalStore(subscribe, read, read);
    },

    useRecovered(client, room, listener) {
      const latest = useRef(listener);
      useEffect(() => {
        latest.current = listener;
      });
      useEffect(
        () => client.onRecovered((changed, recovery) => (changed === room ? latest.current(recovery) : undefined)),
        [client, room],
      );
    },

    usePresence(client, room) {
      const subscribe = useMemo(
        () => (notify: () => void) => client.onPresence((changed) => changed === room && notify()),
        [client, room],
      );
      const read = () => client.presence.get(room) ?? null;
      return useSyncExternalStore(subscribe, read, read);
    },

    useSubscription(client, room) {
      const [subscribe, read] = useMemo(() => {
        let subscription: Subscription | null = null;
        const start = (notify: () => void) => {
          const started = (subscription = client.subscribe(room, notify));
          return () => started.unsubscribe();
        };
        return [start, (): SubscriptionState => subscription?.state ?? "waiting"] as const;
      }, [client, room]);
      return useSyncExternalStore(subscribe, read, read);
    },
  };
}
