/**
 * Preloaded (`node -r`) into a plain Node process, it makes that process look like an Electron utility process to
 * examples/electron/model-process.js: `process.parentPort`, which hands over ports. Ports of several windows travel over
 * the one IPC channel, as { window, data } or { window, close } in both directions.
 */
import { EventEmitter } from "node:events";

/** MessagePortMain: its messages arrive as events with `data` and `ports`. */
class PortShim extends EventEmitter {
  constructor(readonly window: number) {
    super();
  }
  start(): void {}
  postMessage(data: unknown): void {
    process.send?.({ window: this.window, data });
  }
  close(): void {
    process.send?.({ window: this.window, close: true });
  }
}

const parentPort = new EventEmitter();
Object.assign(process, { parentPort });
const windows = new Map<number, PortShim>();

process.on("message", ({ window, data, close }: { window?: number; data?: { type: string }; close?: boolean }) => {
  if (window === undefined) {
    parentPort.emit("message", { data, ports: [] });
  } else if (data?.type === "connect") {
    const port = new PortShim(window);
    windows.set(window, port);
    parentPort.emit("message", { data, ports: [port] });
  } else {
    windows.get(window)?.emit(close ? "close" : "message", { data, ports: [] });
  }
});
