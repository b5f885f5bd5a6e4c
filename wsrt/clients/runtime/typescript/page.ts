/** The page that a client runs in, and its lifecycle events. */

/**
 * A lifecycle event of the page.
 *
 * - `online`, `offline`: the network became available or unavailable, according to the browser
 * - `visible`, `hidden`: the tab became visible or hidden
 * - `pageshow`, `pagehide`: the page was shown, possibly from the back/forward cache, or was left
 * - `freeze`, `resume`: a hidden tab was suspended or resumed
 */
export type PageSignal = "online" | "offline" | "visible" | "hidden" | "pageshow" | "pagehide" | "freeze" | "resume";

export interface Page {
  readonly isHidden: boolean;
  subscribe(listener: (signal: PageSignal) => void): () => void;
}

interface Target {
  addEventListener(type: string, listener: () => void): void;
  removeEventListener(type: string, listener: () => void): void;
}

/** Return the page of a browser. Return null in workers, Node and Deno. */
export function browserPage(): Page | null {
  const { document, window } = globalThis as unknown as {
    document?: Target & { visibilityState: string };
    window?: Target;
  };
  if (!document?.addEventListener || !window?.addEventListener) return null;
  const isHidden = () => document.visibilityState === "hidden";
  return {
    get isHidden() {
      return isHidden();
    },
    subscribe(listener) {
      const subscriptions: [Target, string, () => void][] = [
        ...(["online", "offline", "pageshow", "pagehide"] as const).map(
          (signal): [Target, string, () => void] => [window, signal, () => listener(signal)],
        ),
        ...(["freeze", "resume"] as const).map(
          (signal): [Target, string, () => void] => [document, signal, () => listener(signal)],
        ),
        [document, "visibilitychange", () => listener(isHidden() ? "hidden" : "visible")],
      ];
      for (const [target, type, run] of subscriptions) target.addEventListener(type, run);
      return () => {
        for (const [target, type, run] of subscriptions) target.removeEventListener(type, run);
      };
    },
  };
}
