/** All callbacks of one signal, behind one listener. */
interface SharedListener {
  callbacks: Set<() => void>;
  listener: () => void;
}

const sharedListeners = new WeakMap<AbortSignal, SharedListener>();

/**
 * Calls back when the signal aborts, until the returned function is called. A signal has one listener however many
 * callbacks it has, so that many requests with one signal cause no warning.
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  let shared = sharedListeners.get(signal);
  if (shared === undefined) {
    const callbacks = new Set<() => void>();
    const listener = () => {
      for (const registered of [...callbacks]) registered();
    };
    shared = { callbacks, listener };
    sharedListeners.set(signal, shared);
  }
  const { callbacks, listener } = shared;
  if (callbacks.size === 0) signal.addEventListener("abort", listener);
  callbacks.add(callback);
  return () => {
    callbacks.delete(callback);
    if (callbacks.size === 0) signal.removeEventListener("abort", listener);
  };
}
