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
  /** What messages call it. */
  what: string;
  url: URL;
  /** Expected SHA-256 (hex) where it is known beforehand. */
  sha256: string | null;
  /** First bytes of every file of this kind. */
  magic: string;
  /** What a file of this kind is called: "a GGUF file". */
  kind: string;
  /** Reads what the redirects say about the file (Hugging Face: size and SHA-256 of what lies on the CDN). */
  linked?: (response: Response) => { sha256: string | null; size: number | null };
}

export interface Reporter {
  progress(phase: "download" | "verify", received: number, total: number | null): void;
  signal: AbortSignal | undefined;
}

/** Beside a partial file: what it is the beginning of. Without it a partial file cannot be continued. */
interface Sidecar {
  /** Strong ETag, or Last-Modified: the validator that If-Range takes. */
  validator: string | null;
  sha256: string | null;
  size: number | null;
}

/**
 * Downloads to `<final>.partial`, continues what an earlier try left there, checks size, SHA-256 and magic, and then
 * renames. `<final>` is complete or absent at every moment. The caller holds the lock of `final`.
 */
export async function download(plan: Download, final: string, report: Reporter): Promise<void> {
  const transfer = new Transfer(plan, final, report);
  let failures = 0;
  for (;;) {
    const before = transfer.received;
    try {
      await transfer.attempt();
      return;
    } catch (error) {
      if (report.signal?.aborted) throw report.signal.reason;
      if (isFinal(error)) throw error instanceof CllmError ? error : describeNetworkError(plan.what, error, transfer);
      // A connection that breaks every few hundred megabytes still gets there: only tries without progress count.
      failures = transfer.received > before ? 1 : failures + 1;
      if (failures > tuning.retries) throw describeNetworkError(plan.what, error, transfer);
      const delay = (error instanceof RetryError ? error.delay : null) ?? tuning.retryDelay * 2 ** (failures - 1);
      await sleep(delay, undefined, { signal: report.signal }).catch(() => report.signal?.throwIfAborted());
    }
  }
}

class Transfer {
  received = 0;
  total: number | null = null;
  private readonly partial: string;
  private readonly sidecar: string;
  /** Of the bytes this process wrote from the first one on; null when an earlier process wrote the beginning. */
  private hash: Hash | null = null;
  private known: Sidecar | null = null;
  private restarted = false;

  constructor(
    private readonly plan: Download,
    private readonly final: string,
    private readonly report: Reporter,
  ) {
    this.partial = `${final}.partial`;
    this.sidecar = `${final}.partial.json`;
  }

  /** True when a later pull continues where this one stopped. */
  get resumable(): boolean {
    return this.received > 0 && (this.known?.validator != null || this.known?.sha256 != null);
  }

  async attempt(): Promise<void> {
    this.known = await this.readSidecar();
    this.received = this.known === null ? 0 : ((await sizeOf(this.partial)) ?? 0);
    if (!this.resumable) this.received = 0;
    if (this.received === 0) this.hash = null;

    const headers: Record<string, string> = {};
    if (this.received > 0) {
      headers.range = `bytes=${this.received}-`;
      if (this.known?.validator) headers["if-range"] = this.known.validator;
    }
    const response = await get(this.plan.url, this.plan, headers, this.report.signal);
    try {
      const expected = await this.begin(response);
      if (response.status !== 416) await this.receive(response.body);
      await this.finish(expected);
    } finally {
      response.body.destroy();
    }
  }

  /** Looks at the response's head: is it the file, from which byte, and what does the server promise about it? */
  private async begin(response: Response): Promise<string | null> {
    const { status, headers } = response;
    const linked = this.plan.linked?.(response) ?? { sha256: null, size: null };
    const sha256 = this.plan.sha256 ?? linked.sha256;
    if (this.known?.sha256 && sha256 && this.known.sha256 !== sha256) {
      if (this.received > 0) await this.restart("the file has changed on the server");
    }
    if (status === 416 && this.received > 0) {
      // Nothing comes after what is here: complete, if that is the size the server names.
      if (contentRange(headers["content-range"])?.total !== this.received) await this.restart("the range was refused");
      this.total = this.received;
      return sha256 ?? this.known?.sha256 ?? null;
    }
    if (status !== 200 && status !== 206) throw statusError(this.plan.what, response);
    const encoding = headers["content-encoding"] ?? "identity";
    if (encoding !== "identity")
      throw this.failure(`the server sent it compressed (${encoding}), which was not asked for`);

    const length = headers["content-length"] === undefined ? null : Number(headers["content-length"]);
    if (status === 206) {
      const range = contentRange(headers["content-range"]);
      const sameSize = range?.total == null || this.known?.size == null || range.total === this.known.size;
      if (range?.start !== this.received || !sameSize) await this.restart("the server answered with another range");
      this.total = range?.total ?? (length === null ? null : this.received + length);
    } else {
      // The whole file: nothing to resume, or the file changed, or the server ignores ranges.
      this.received = 0;
      this.total = length;
      await this.write(async () => {
        await fs.rm(this.partial, { force: true });
        this.known = { validator: validator(headers), sha256, size: this.total };
        await fs.writeFile(this.sidecar, JSON.stringify(this.known));
      });
    }
    if (linked.size !== null && this.total !== null && linked.size !== this.total) {
      throw this.failure(`it should have ${linked.size} bytes but the server offers ${this.total}`);
    }
    if (this.total !== null) {
      await requireSpace(this.plan.what, path.dirname(this.final), this.total - this.received);
    }
    if (this.received === 0) this.hash = createHash("sha256");
    return sha256;
  }

  private async receive(body: Response["body"]): Promise<void> {
    const handle = await this.write(() => fs.open(this.partial, this.received > 0 ? "r+" : "w"));
    try {
      let head = this.received > 0 ? null : Buffer.alloc(0);
      for await (const chunk of body as AsyncIterable<Buffer>) {
        if (head !== null) {
          head = Buffer.concat([head, chunk]);
          if (head.length >= this.plan.magic.length) {
            this.checkMagic(head, body.headers["content-type"]);
            head = null;
          }
        }
        await this.write(async () => {
          for (let done = 0; done < chunk.length; ) {
            const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, this.received);
            done += bytesWritten;
            this.received += bytesWritten;
          }
        });
        this.hash?.update(chunk);
        this.report.progress("download", this.received, this.total);
      }
      this.report.signal?.throwIfAborted();
      await this.write(() => handle.sync());
    } finally {
      await handle.close();
    }
    if (this.total !== null && this.received !== this.total) {
      // More than promised can only be garbage; less is a connection that ended early, and is continued.
      if (this.received > this.total) await this.restart("the server sent more than it announced");
      throw new RetryError(`the connection ended after ${this.received} of ${this.total} bytes`);
    }
  }

  private async finish(sha256: string | null): Promise<void> {
    if (sha256 !== null) {
      const digest = this.hash?.digest("hex") ?? (await this.hashFile());
      if (digest !== sha256) {
        const resumed = this.hash === null;
        this.hash = null;
        // Joined from two downloads it may be the joint that is wrong: once more from the start before giving up.
        if (resumed) await this.restart("the joined parts do not have the expected SHA-256");
        await this.remove();
        throw this.failure(`its SHA-256 is ${digest} instead of ${sha256}; it was deleted`);
      }
    }
    if (!(await startsWith(this.partial, this.plan.magic))) {
      await this.remove();
      throw this.failure(`it is not ${this.plan.kind}`);
    }
    await this.write(async () => {
      await publish(this.partial, this.final);
      await fs.rm(this.sidecar, { force: true });
    });
  }

  private checkMagic(head: Buffer, contentType: string | undefined): void {
    const { magic, kind } = this.plan;
    if (head.toString("latin1", 0, magic.length) === magic) return;
    this.received = 0;
    const page = /html/i.test(contentType ?? "") || /^\s*</.test(head.toString("latin1", 0, 64));
    throw this.failure(page ? `the server sent a web page instead of ${kind}` : `what the server sent is not ${kind}`);
  }

  private async hashFile(): Promise<string> {
    const hash = createHash("sha256");
    let done = 0;
    for await (const chunk of createReadStream(this.partial, { highWaterMark: 1 << 20, signal: this.report.signal })) {
      hash.update(chunk);
      done += chunk.length;
      this.report.progress("verify", done, this.total);
    }
    return hash.digest("hex");
  }

  /** Forgets the partial file and asks for another try, which then starts at the first byte. */
  private async restart(reason: string): Promise<never> {
    if (this.restarted) throw this.failure(reason);
    this.restarted = true;
    await this.remove();
    throw new RetryError(reason, 0);
  }

  private async remove(): Promise<void> {
    this.received = 0;
    await fs.rm(this.partial, { force: true });
    await fs.rm(this.sidecar, { force: true });
  }

  private async readSidecar(): Promise<Sidecar | null> {
    try {
      return JSON.parse(await fs.readFile(this.sidecar, "utf8")) as Sidecar;
    } catch {
      return null;
    }
  }

  /** Runs a write to the disk, whose failures are final and kept apart from those of the network. */
  private async write<T>(operation: () => Promise<T>): Promise<T> {
    try {
      return await operation();
    } catch (error) {
      throw await storageError(this.plan.what, this.final, error, this.resumable ? this.received : 0);
    }
  }

  private failure(reason: string): CllmError {
    return new CllmError("CLLM_PULL_FAILED", `Could not pull ${this.plan.what}: ${reason}.`);
  }
}

/** What If-Range takes: a strong ETag, or the date; a weak ETag does not promise the same bytes. */
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
