import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { deflateRawSync } from "node:zlib";
import { type PullOptions, pull } from "../lib/pull/pull.js";
import { tuning } from "../lib/pull/tuning.js";

export type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

/** The model that the servers of these tests offer, and its checksum. */
export const MODEL = Buffer.concat([Buffer.from("GGUF"), randomBytes(300_000)]);
export const SHA256 = sha256(MODEL);

export function sha256(data: Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Matches CLLM_PULL_FAILED with such a message, for assert.rejects. */
export const failed = (pattern: RegExp) => (error: Error & { code?: string }) => {
  assert.equal(error.code, "CLLM_PULL_FAILED", error.stack);
  assert.match(error.message, pattern);
  return true;
};

/** A server on the loopback, and for every test an empty cache with short times. It is made inside a `describe`. */
export class PullWorld {
  base = "";
  cacheDir = "";
  handler: Handler = serve(MODEL);
  requests: http.IncomingMessage[] = [];

  constructor() {
    const server = http.createServer((request, response) => {
      this.requests.push(request);
      this.handler(request, response);
    });
    const times = { ...tuning };
    const names = ["HF_ENDPOINT", "HF_TOKEN", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"];
    const environment = names.map((name) => [name, process.env[name]] as const);
    before(async () => {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      this.base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    });
    after(() => {
      server.closeAllConnections();
      server.close();
    });
    beforeEach(async () => {
      this.cacheDir = await fs.mkdtemp(path.join(os.tmpdir(), "cllm-pull-"));
      this.requests = [];
      this.handler = serve(MODEL);
      const short = { retries: 2, retryDelay: 5, idleTimeout: 500, lockPoll: 10, lockTouch: 50, lockStale: 300 };
      Object.assign(tuning, short);
    });
    afterEach(async () => {
      Object.assign(tuning, times);
      for (const [name, value] of environment) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
      await fs.rm(this.cacheDir, { recursive: true, force: true });
    });
  }

  get(options: PullOptions = {}, name = "model.gguf"): Promise<string> {
    return pull(`${this.base}/${name}`, { cacheDir: this.cacheDir, ...options });
  }

  pull(source: string, options: PullOptions = {}): Promise<string> {
    return pull(source, { cacheDir: this.cacheDir, ...options });
  }

  /** The names of all files below the cache. */
  async files(): Promise<string[]> {
    const all = await fs.readdir(this.cacheDir, { recursive: true, withFileTypes: true });
    const names = all.filter((entry) => !entry.isDirectory()).map((entry) => entry.name);
    return names.sort();
  }
}

export interface Behaviour {
  /** Breaks the connection after this many bytes of the body. */
  cut?: number;
  /** Sends this many bytes and then nothing more. */
  stall?: number;
  ignoreRange?: boolean;
  chunked?: boolean;
  etag?: string | null;
  type?: string;
}

/** A server of one file, with what can go wrong. */
export function serve(data: Buffer, behaviour: Behaviour = {}): Handler {
  const { cut, stall, ignoreRange, chunked, etag = '"v1"', type = "application/octet-stream" } = behaviour;
  return (request, response) => {
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const condition = request.headers["if-range"];
    const partial = range !== null && !ignoreRange && (condition === undefined || condition === etag);
    const start = partial ? Number(range[1]) : 0;
    const headers: http.OutgoingHttpHeaders = { "content-type": type, ...(etag !== null && { etag }) };
    if (partial && start >= data.length) {
      response.writeHead(416, { ...headers, "content-range": `bytes */${data.length}` }).end();
      return;
    }
    if (partial) headers["content-range"] = `bytes ${start}-${data.length - 1}/${data.length}`;
    if (!chunked) headers["content-length"] = data.length - start;
    response.writeHead(partial ? 206 : 200, headers);
    const limit = cut ?? stall;
    if (limit === undefined || data.length - start <= limit) response.end(data.subarray(start));
    else
      response.write(
        data.subarray(start, start + limit),
        () => cut !== undefined && setTimeout(() => response.destroy(), 20),
      );
  };
}

/** Makes a zip archive like a wheel: deflated entries and a central directory. */
export function zip(entries: Record<string, Buffer>): Buffer {
  const local: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const [name, data] of Object.entries(entries)) {
    const packed = deflateRawSync(data);
    const header = Buffer.alloc(26); // version .. extra length, shared by both records
    header.writeUInt16LE(20, 0);
    header.writeUInt16LE(8, 4);
    header.writeUInt32LE(crc(data), 10);
    header.writeUInt32LE(packed.length, 14);
    header.writeUInt32LE(data.length, 18);
    header.writeUInt16LE(name.length, 22);
    const record = Buffer.concat([Buffer.from("PK\x03\x04"), header, Buffer.from(name), packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from("PK\x01\x02\x14\x00"), header, tail, Buffer.from(name)]));
    local.push(record);
    offset += record.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(central.length, 4);
  end.writeUInt16LE(central.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...local, directory, Buffer.from("PK\x05\x06"), end]);
}

/** Computes CRC-32, which node:zlib has only from Node 20.15 on. */
function crc(data: Buffer): number {
  let value = ~0;
  for (const byte of data) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  }
  return ~value >>> 0;
}
