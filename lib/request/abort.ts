/** Callbacks of one signal, behind one listener. */
interface Fan {
  callbacks: Set<() => void>;
  listener: () => void;
}

const fans = new WeakMap<AbortSignal, Fan>();

/** Calls back when the signal aborts. One listener per signal, so that many requests with one cause no warning. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  let fan = fans.get(signal);
  if (fan === undefined) {
    const callbacks = new Set<() => void>();
    fan = {
      callbacks,
      listener: () => {
        for (const one of [...callbacks]) one();
      },
    };
    fans.set(signal, fan);
  }
  const { callbacks, listener } = fan;
  if (callbacks.size === 0) signal.addEventListener("abort", listener);
  callbacks.add(callback);
  return () => {
    callbacks.delete(callback);
    if (callbacks.size === 0) signal.removeEventListener("abort", listener);
  };
}
