/**
 * Hooks for React, made from your own copy of it:
 *
 *     import * as React from "react";
 *     import { hooks } from "./realtime/runtime/react.js";
 *     export const { useClient, useStatus, useEvent, usePresence } = hooks(React);
 */

import type { Client } from "./client.js";
import type { Context, Name, Presence, Status } from "./types.js";

/** What is used of React, so that projects without it need not have its types. */
export interface ReactLike {
  useEffect(effect: () => void | (() => void), dependencies?: readonly unknown[]): void;
  useMemo<Value>(make: () => Value, dependencies: readonly unknown[]): Value;
  useRef<Value>(initial: Value): { current: Value };
  useSyncExternalStore<Value>(
    subscribe: (tell: () => void) => () => void,
    read: () => Value,
    readOnServer?: () => Value,
  ): Value;
}

type AnyClient = Client<any, any, any, any>;

export interface Hooks {
  /** A client that is connected while the component is mounted; made anew when a dependency changes. */
  useClient<C extends AnyClient>(make: () => C, dependencies: readonly unknown[]): C;
  /** The state of the connection. */
  useStatus(client: AnyClient): Status;
  /** Be told of an event; the latest listener is called. */
  useEvent<Receives extends object, K extends Name<Receives>>(
    client: Client<Receives, any, any, any>,
    event: K,
    listener: (data: Receives[K], context: Context) => unknown,
  ): void;
  /** Who is in a room; null while that is not known. */
  usePresence<Shown>(client: Client<any, any, any, Shown>, room: string): Presence<Shown> | null;
}

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
      const subscribe = useMemo(() => (tell: () => void) => client.onState(tell), [client]);
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

    usePresence(client, room) {
      const subscribe = useMemo(
        () => (tell: () => void) => client.onPresence((changed) => changed === room && tell()),
        [client, room],
      );
      const read = () => client.presence.get(room) ?? null;
      return useSyncExternalStore(subscribe, read, read);
    },
  };
}
