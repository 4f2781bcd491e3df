import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CllmError } from "../errors.js";
import { publish } from "../machine/files.js";
import { requireSpace, sizeOf, startsWith, storageError } from "./cache.js";
import { type Access, get, type Response } from "./http.js";
import { describeNetworkError, isFinal, RetryError, statusError } from "./network-errors.js";
import { tuning } from "./tuning.js";

/** One file to be downloaded. */
export interface Download extends Access {
  /** Name of the model in messages. */
  what: string;
  url: URL;
  /** Expected SHA-256 (hex), or null where it is not known beforehand. */
  sha256: string | null;
  /** The first bytes that the file must have. */
  magic: string;
  /** Kind of the file in messages: "a GGUF file". */
  kind: string;
  /** Reads size and SHA-256 of the file from the headers of redirects (Hugging Face sends those of the CDN's file). */
  linked?: (response: Response) => { sha256: string | null; size: number | null };
}

export interface Reporter {
  progress(phase: "download" | "verify", received: number, total: number | null): void;
  signal: AbortSignal | undefined;
}

/** Identifies the file that a partial file is the beginning of. It lies beside it; without it no download can continue. */
interface Origin {
  /** Strong ETag or Last-Modified, for the header If-Range. */
  validator: string | null;
  sha256: string | null;
  size: number | null;
}

/**
 * Downloads to `<final>.partial`, behind the bytes that an earlier try left there, checks size, SHA-256 and magic, and
 * then renames the file. `<final>` is complete or absent at every moment. The caller holds the lock of `final`.
 */
export async function download(plan: Download, final: string, reporter: Reporter): Promise<void> {
  const { signal } = reporter;
  const transfer = new Transfer(plan, final, reporter);
  let failures = 0;
  for (;;) {
    const receivedBefore = transfer.received;
    try {
      await transfer.attempt();
      return;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (isFinal(error)) throw error instanceof CllmError ? error : describeNetworkError(plan.what, error, transfer);
      // Only tries without progress count, as a connection that breaks every few hundred megabytes still gets there.
      failures = transfer.received > receivedBefore ? 1 : failures + 1;
      if (failures > tuning.retries) throw describeNetworkError(plan.what, error, transfer);
      const delay = (error instanceof RetryError ? error.delay : null) ?? tuning.retryDelay * 2 ** (failures - 1);
      await sleep(delay, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
  }
}

class Transfer {
  /** Bytes that are on the disk. */
  received = 0;
  /** Bytes of the whole file, where they are known. */
  total: number | null = null;
  readonly #plan: Download;
  readonly #final: string;
  readonly #reporter: Reporter;
  readonly #partial: string;
  readonly #originFile: string;
  /** Hash of all bytes so far; null when an earlier process wrote the beginning. */
  #hash: Hash | null = null;
  #origin: Origin | null = null;
  #hasRestarted = false;

  constructor(plan: Download, final: string, reporter: Reporter) {
    this.#plan = plan;
    this.#final = final;
    this.#reporter = reporter;
    this.#partial = `${final}.partial`;
    this.#originFile = `${final}.partial.json`;
  }

  /** True when a later pull can continue where this one stopped. */
  get resumable(): boolean {
    return this.received > 0 && (this.#origin?.validator != null || this.#origin?.sha256 != null);
  }

  async attempt(): Promise<void> {
    this.#origin = await this.#readOrigin();
    this.received = this.#origin === null ? 0 : ((await sizeOf(this.#partial)) ?? 0);
    if (!this.resumable) this.received = 0;
    if (this.received === 0) this.#hash = null;

    const headers: Record<string, string> = {};
    if (this.received > 0) {
      headers.range = `bytes=${this.received}-`;
      if (this.#origin?.validator) headers["if-range"] = this.#origin.validator;
    }
    const response = await get(this.#plan.url, this.#plan, headers, this.#reporter.signal);
    try {
      const expected = await this.#begin(response);
      if (response.status !== 416) await this.#receive(response.body);
      await this.#finish(expected);
    } finally {
      response.body.destroy();
    }
  }

  /** Checks by the response's head whether it is the file, and from which byte on. Resolves to the expected SHA-256. */
  async #begin(response: Response): Promise<string | null> {
    const { status, headers } = response;
    const linked = this.#plan.linked?.(response) ?? { sha256: null, size: null };
    const sha256 = this.#plan.sha256 ?? linked.sha256;
    if (this.#origin?.sha256 && sha256 && this.#origin.sha256 !== sha256) {
      if (this.received > 0) await this.#restart("the file has changed on the server");
    }
    if (status === 416 && this.received > 0) {
      // Nothing comes after the bytes that are here: the file is complete if the server names that size.
      if (contentRange(headers["content-range"])?.total !== this.received) await this.#restart("the range was refused");
      this.total = this.received;
      return sha256 ?? this.#origin?.sha256 ?? null;
    }
    if (status !== 200 && status !== 206) throw statusError(this.#plan.what, response);
    const encoding = headers["content-encoding"] ?? "identity";
    if (encoding !== "identity") {
      throw this.#failure(`the server sent it compressed (${encoding}), which was not asked for`);
    }

    const length = headers["content-length"] === undefined ? null : Number(headers["content-length"]);
    if (status === 206) {
      const range = contentRange(headers["content-range"]);
      const sameSize = range?.total == null || this.#origin?.size == null || range.total === this.#origin.size;
      if (range?.start !== this.received || !sameSize) await this.#restart("the server answered with another range");
      this.total = range?.total ?? (length === null ? null : this.received + length);
    } else {
      // This is the whole file: nothing was to be resumed, the file has changed, or the server ignores ranges.
      this.received = 0;
      this.total = length;
      await this.#writing(async () => {
        await fs.rm(this.#partial, { force: true });
        this.#origin = { validator: validator(headers), sha256, size: this.total };
        await fs.writeFile(this.#originFile, JSON.stringify(this.#origin));
      });
    }
    if (linked.size !== null && this.total !== null && linked.size !== this.total) {
      throw this.#failure(`it should have ${linked.size} bytes but the server offers ${this.total}`);
    }
    if (this.total !== null) {
      await requireSpace(this.#plan.what, path.dirname(this.#final), this.total - this.received);
    }
    if (this.received === 0) this.#hash = createHash("sha256");
    return sha256;
  }

  async #receive(body: Response["body"]): Promise<void> {
    const handle = await this.#writing(() => fs.open(this.#partial, this.received > 0 ? "r+" : "w"));
    try {
      let head = this.received > 0 ? null : Buffer.alloc(0);
      for await (const chunk of body as AsyncIterable<Buffer>) {
        if (head !== null) {
          head = Buffer.concat([head, chunk]);
          if (head.length >= this.#plan.magic.length) {
            this.#checkMagic(head, body.headers["content-type"]);
            head = null;
          }
        }
        await this.#writing(async () => {
          for (let done = 0; done < chunk.length; ) {
            const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, this.received);
            done += bytesWritten;
            this.received += bytesWritten;
          }
        });
        this.#hash?.update(chunk);
        this.#reporter.progress("download", this.received, this.total);
      }
      this.#reporter.signal?.throwIfAborted();
      await this.#writing(() => handle.sync());
    } finally {
      await handle.close();
    }
    if (this.total !== null && this.received !== this.total) {
      // More bytes than promised can only be garbage. Fewer mean that the connection ended early: the next try continues.
      if (this.received > this.total) await this.#restart("the server sent more than it announced");
      throw new RetryError(`the connection ended after ${this.received} of ${this.total} bytes`);
    }
  }

  async #finish(sha256: string | null): Promise<void> {
    if (sha256 !== null) {
      const digest = this.#hash?.digest("hex") ?? (await this.#hashFile());
      if (digest !== sha256) {
        const isJoined = this.#hash === null;
        this.#hash = null;
        // Where two downloads were joined, the parts may be of different files: try once more from the start.
        if (isJoined) await this.#restart("the joined parts do not have the expected SHA-256");
        await this.#discard();
        throw this.#failure(`its SHA-256 is ${digest} instead of ${sha256}; it was deleted`);
      }
    }
    if (!(await startsWith(this.#partial, this.#plan.magic))) {
      await this.#discard();
      throw this.#failure(`it is not ${this.#plan.kind}`);
    }
    await this.#writing(async () => {
      await publish(this.#partial, this.#final);
      await fs.rm(this.#originFile, { force: true });
    });
  }

  #checkMagic(head: Buffer, contentType: string | undefined): void {
    const { magic, kind } = this.#plan;
    if (head.toString("latin1", 0, magic.length) === magic) return;
    this.received = 0;
    const page = /html/i.test(contentType ?? "") || /^\s*</.test(head.toString("latin1", 0, 64));
    throw this.#failure(page ? `the server sent a web page instead of ${kind}` : `what the server sent is not ${kind}`);
  }

  async #hashFile(): Promise<string> {
    const hash = createHash("sha256");
    let done = 0;
    for await (const chunk of createReadStream(this.#partial, {
      highWaterMark: 1 << 20,
      signal: this.#reporter.signal,
    })) {
      hash.update(chunk);
      done += chunk.length;
      this.#reporter.progress("verify", done, this.total);
    }
    return hash.digest("hex");
  }

  /** Forgets the partial file and asks for another try, which then starts at the first byte. */
  async #restart(reason: string): Promise<never> {
    if (this.#hasRestarted) throw this.#failure(reason);
    this.#hasRestarted = true;
    await this.#discard();
    throw new RetryError(reason, 0);
  }

  async #discard(): Promise<void> {
    this.received = 0;
    await fs.rm(this.#partial, { force: true });
    await fs.rm(this.#originFile, { force: true });
  }

  async #readOrigin(): Promise<Origin | null> {
    try {
      return JSON.parse(await fs.readFile(this.#originFile, "utf8")) as Origin;
    } catch {
      return null;
    }
  }

  /** Runs a write to the disk. Its failures are final, unlike those of the network. */
  async #writing<T>(operation: () => Promise<T>): Promise<T> {
    try {
      return await operation();
    } catch (error) {
      throw await storageError(this.#plan.what, this.#final, error, this.resumable ? this.received : 0);
    }
  }

  #failure(reason: string): CllmError {
    return new CllmError("CLLM_PULL_FAILED", `Could not pull ${this.#plan.what}: ${reason}.`);
  }
}

/** The validator for If-Range: a strong ETag, or the date. A weak ETag does not promise the same bytes. */
function validator(headers: Response["headers"]): string | null {
  const { etag } = headers;
  return etag !== undefined && !etag.startsWith("W/") ? etag : (headers["last-modified"] ?? null);
}

function contentRange(header: string | undefined): { start: number | null; total: number | null } | null {
  const match = /^bytes (?:(\d+)-\d+|\*)\/(\d+|\*)$/.exec(header ?? "");
  if (match === null) return null;
  const number = (text: string | undefined): number | null =>
    text === undefined || text === "*" ? null : Number(text);
  return { start: number(match[1]), total: number(match[2]) };
}
