import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";

// docs/architecture.md says what the rooms are for; this test holds the sources to the arrows between them.

const root = path.join(__dirname, "..", "..");

/**
 * The rooms of lib/, lowest layer first. A line is a layer, an entry of it a room: files and folders, separated by
 * spaces. A file may import from its own room and from every lower layer, and from no other room of its layer.
 */
const LIB_LAYERS = [
  ["errors.ts options.ts limits.ts addon.d.ts"],
  ["binary/"],
  ["machine/", "chat/", "default-model.ts"],
  ["model-info.ts", "adapters.ts"],
  ["request/"],
  ["sequence.ts"],
  ["decoder.ts"],
  ["model.ts"],
  ["kernels.ts", "quantize.ts", "merge.ts", "prompt-data.ts", "pull/"],
  ["eval/", "trace/", "distill/", "convert/"],
  ["index.ts", "cli/"],
  ["esm.mts"],
];

/** What each room of native/, and cuda/, may include of the other rooms. */
const NATIVE_ROOMS: Record<string, readonly string[]> = {
  base: [],
  model: ["base"],
  kernels: ["base"],
  products: ["base"],
  llama: ["base", "kernels", "products"],
  decode: ["base", "model", "kernels", "llama"],
  train: ["base", "model", "products"],
  addon: ["base", "model", "kernels", "products", "llama", "decode", "train"],
  cuda: ["base", "kernels"],
};

/** llama.cpp's public headers, and the rooms that know nothing of llama.cpp. All its other headers are private. */
const LLAMA_HEADERS = "llama.h ggml.h ggml-alloc.h ggml-backend.h ggml-cpu.h ggml-cuda.h gguf.h".split(" ");
const WITHOUT_LLAMA = ["kernels", "products", "cuda"];

/** Sources by their path below a folder, with forward slashes. */
type Sources = ReadonlyMap<string, string>;

function readSources(directory: string, extension: RegExp): Sources {
  const folder = path.join(root, directory);
  const names = readdirSync(folder, { recursive: true }) as string[];
  const chosen = names.filter((name) => extension.test(name)).map((name) => name.replaceAll("\\", "/"));
  return new Map(chosen.sort().map((name) => [name, readFileSync(path.join(folder, name), "utf8")]));
}

/** Files that each file imports, `import type`, `export ... from`, import() and require() included. */
function importGraph(sources: Sources): Map<string, string[]> {
  const graph = new Map<string, string[]>();
  const pattern = /(?:\bfrom\s*|\bimport\s*|\b(?:import|require)\(\s*)"(\.[^"]+)"/g;
  for (const [file, text] of sources) {
    const imported = [...text.matchAll(pattern)].map(([, specifier]) => {
      const stem = path.posix.join(path.posix.dirname(file), specifier as string).replace(/\.m?js$/, "");
      const target = [".ts", ".d.ts", ".mts"].map((ending) => stem + ending).find((name) => sources.has(name));
      return target ?? `${specifier} (no such file)`;
    });
    graph.set(file, [...new Set(imported)]);
  }
  return graph;
}

/** The files of one cycle, with the first file again at the end, or null. */
function findCycle(graph: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const visit = (file: string, way: readonly string[]): string[] | null => {
    if (way.includes(file)) return [...way.slice(way.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const next of graph.get(file) ?? []) {
      const cycle = visit(next, [...way, file]);
      if (cycle !== null) return cycle;
    }
    done.add(file);
    return null;
  };
  for (const file of graph.keys()) {
    const cycle = visit(file, []);
    if (cycle !== null) return cycle;
  }
  return null;
}

/** Imports that the layers forbid, and files without a room, one line each. */
function layerFaults(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const roomOf = (file: string) => {
    for (const [layer, rooms] of LIB_LAYERS.entries()) {
      const room = rooms.find((parts) =>
        parts.split(" ").some((part) => (part.endsWith("/") ? file.startsWith(part) : file === part)),
      );
      if (room !== undefined) return { layer, room };
    }
    return null;
  };
  const faults: string[] = [];
  for (const [file, imported] of graph) {
    const from = roomOf(file);
    if (from === null) faults.push(`${file} is in no room`);
    for (const target of imported) {
      const to = roomOf(target);
      if (to === null) faults.push(`${file} imports ${target}, which is in no room`);
      else if (from !== null && from.room !== to.room && to.layer >= from.layer) {
        faults.push(`${file} imports ${target}, which is not below it`);
      }
    }
  }
  return faults;
}

/** Includes that the table of native rooms forbids. `sources` are named `<room>/<file>`. */
function includeFaults(sources: Sources): string[] {
  const faults: string[] = [];
  for (const [file, text] of sources) {
    const room = file.split("/", 1)[0] as string;
    const allowed = NATIVE_ROOMS[room];
    if (allowed === undefined) {
      faults.push(`${file} is in no room`);
      continue;
    }
    for (const [, bracket, header] of text.matchAll(/^\s*#\s*include\s*([<"])([^>"]+)[>"]/gm) as Iterable<string[]>) {
      const target = (header as string).split("/", 1)[0] as string;
      const fault = (why: string) => faults.push(`${file} includes ${header}: ${why}`);
      if (/^(napi|node_api|js_native_api)/.test(header as string)) {
        if (room !== "addon") fault("only addon/ may include Node-API");
      } else if (bracket === '"' && target in NATIVE_ROOMS) {
        if (target !== room && !allowed.includes(target)) fault(`${room}/ may include ${allowed.join(", ") || "none"}`);
      } else if (LLAMA_HEADERS.includes(header as string)) {
        if (WITHOUT_LLAMA.includes(room)) fault(`${room}/ knows nothing of llama.cpp`);
      } else if (bracket === '"' && room !== "llama") fault("only llama/ may include llama.cpp's private headers");
    }
  }
  return faults;
}

describe("rooms: what may import what", () => {
  it("no imports of lib/ form a cycle", () => {
    assert.equal(findCycle(importGraph(readSources("lib", /\.m?ts$/)))?.join(" -> "), undefined);
  });

  it("no file of lib/ imports from a room that is not below its own", () => {
    assert.deepEqual(layerFaults(importGraph(readSources("lib", /\.m?ts$/))), []);
  });

  it("no file of native/ or cuda/ includes what its room must not", () => {
    const sources = new Map(readSources("native", /\.(h|cpp|cu|cuh)$/));
    for (const [file, text] of readSources("cuda", /\.(h|cpp|cu|cuh)$/)) sources.set(`cuda/${file}`, text);
    assert.ok(sources.size > 50);
    assert.deepEqual(includeFaults(sources), []);
  });

  it("every room that the tables name exists", () => {
    const parts = LIB_LAYERS.flat().flatMap((room) => room.split(" ").map((part) => path.join("lib", part)));
    const native = Object.keys(NATIVE_ROOMS).map((room) => (room === "cuda" ? room : path.join("native", room)));
    assert.deepEqual(
      [...parts, ...native].filter((part) => !existsSync(path.join(root, part))),
      [],
    );
  });
});

describe("rooms: the check finds what it is for", () => {
  const graph = (files: Record<string, string>) => importGraph(new Map(Object.entries(files)));

  it("imports of every form, and cycles made of type imports only", () => {
    const files = {
      "model.ts": 'import type {\n  Decoder,\n} from "./decoder.js";\nimport "./machine/threads.js";',
      "decoder.ts": 'export { x } from "./request/a.js";',
      "request/a.ts": 'const m = await import("../model.js");\nimport fs from "node:fs";',
      "machine/threads.ts": "",
    };
    assert.deepEqual(graph(files).get("model.ts"), ["decoder.ts", "machine/threads.ts"]);
    assert.deepEqual(findCycle(graph(files)), ["model.ts", "decoder.ts", "request/a.ts", "model.ts"]);
    assert.equal(findCycle(graph({ ...files, "request/a.ts": "" })), null);
  });

  it("imports upwards and sideways, and files without a room", () => {
    const files = { "machine/a.ts": 'import "../request/b.js";', "request/b.ts": "", "chat/c.ts": "", "new.ts": "" };
    assert.deepEqual(layerFaults(graph(files)), [
      "machine/a.ts imports request/b.ts, which is not below it",
      "new.ts is in no room",
    ]);
    assert.deepEqual(layerFaults(graph({ ...files, "machine/a.ts": 'import "../chat/c.js";' })), [
      "machine/a.ts imports chat/c.ts, which is not below it",
      "new.ts is in no room",
    ]);
  });

  it("includes of higher rooms, of Node-API and of llama.cpp's private headers", () => {
    const sources = new Map([
      ["decode/a.cpp", '#include <vector>\n#include "decode/a.h"\n#include "llama.h"\n#include "llama-context.h"'],
      ["kernels/b.h", '#include "decode/lane.h"\n#include <napi.h>\n#include "ggml.h"'],
      ["llama/c.cu", '#include "ggml-cuda/common.cuh"\n#include "llama-model.h"'],
    ]);
    assert.deepEqual(includeFaults(sources), [
      "decode/a.cpp includes llama-context.h: only llama/ may include llama.cpp's private headers",
      "kernels/b.h includes decode/lane.h: kernels/ may include base",
      "kernels/b.h includes napi.h: only addon/ may include Node-API",
      "kernels/b.h includes ggml.h: kernels/ knows nothing of llama.cpp",
    ]);
  });
});
