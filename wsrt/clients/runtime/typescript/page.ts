/** What happens to the page that a client lives in. */

/**
 * - `online`, `offline`: what the browser believes of the network
 * - `visible`, `hidden`: the tab
 * - `pageshow`, `pagehide`: the page is shown, also out of the back/forward cache; or is left
 * - `freeze`, `resume`: a hidden tab is stopped, and goes on
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

/** Return the page of a browser; null in workers, Node and Deno. */
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
