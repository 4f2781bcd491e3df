import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { addon } from "../lib/binary/binding.js";
import * as limits from "../lib/limits.js";

// TypeScript 7 has no compiler API, so the declarations are read as text. Their form is simple: one member per line.
const source = readFileSync(path.join(__dirname, "..", "..", "lib", "addon.d.ts"), "utf8")
  .replace(/\/\*[\s\S]*?\*\//g, "")
  .replace(/\/\/.*$/gm, "");

/** Names of an interface's members, as `method` or `property`. */
function members(name: string): Map<string, "method" | "property"> {
  const body = new RegExp(`export interface ${name}(?:<\\w+>)? \\{\\n([\\s\\S]*?)\\n\\}`).exec(source)?.[1];
  assert.ok(body, `addon.d.ts declares the interface ${name}`);
  const found = new Map<string, "method" | "property">();
  for (const [, member, next] of body.matchAll(/^ {2}(?:readonly )?(\w+)\??([(:])/gm)) {
    found.set(member as string, next === "(" ? "method" : "property");
  }
  assert.ok(found.size > 0, `the interface ${name} has members`);
  return found;
}

describe("boundary: addon.d.ts and the built addon", () => {
  it("exports what is declared, and nothing else", () => {
    assert.deepEqual(Object.keys(addon()).sort(), [...members("Addon").keys()].sort());
    for (const name of Object.keys(addon())) assert.equal(typeof addon()[name as "Model"], "function", name);
  });

  for (const [exported, declared] of [
    ["Model", "NativeModel"],
    ["Decoder", "NativeDecoder"],
  ] as const) {
    it(`gives ${exported} the methods of ${declared}`, () => {
      const prototype = addon()[exported].prototype;
      const actual = Object.getOwnPropertyNames(prototype).filter((name) => name !== "constructor");
      assert.deepEqual(actual.sort(), [...members(declared).keys()].sort());
      for (const [name, kind] of members(declared)) {
        const type = typeof Object.getOwnPropertyDescriptor(prototype, name)?.value;
        assert.equal(type === "function", kind === "method", `${exported}.${name} is a ${kind}`);
      }
    });

    it(`does not let JavaScript construct ${exported}`, () => {
      assert.throws(() => new (addon()[exported] as new () => unknown)());
    });
  }

  it("reports the build information that is declared", () => {
    const info = addon().buildInfo();
    assert.deepEqual(Object.keys(info).sort(), [...members("BuildInfo").keys()].sort());
    assert.match(info.cpuLevel, /^(native|x86-64-v3|x86-64-avx512|generic)$/);
    assert.match(info.backend, /^(cpu|cuda)$/);
    assert.equal(info.llamaVersion, "0.5.0");
    assert.match(info.llamaCommit, /^[0-9a-f]{40}$/);
    assert.ok(Array.isArray(info.features));
    assert.ok(info.products.every((name) => typeof name === "string"));
  });

  it("has the limits that lib/limits.ts has", () => {
    const native = addon().limits();
    assert.deepEqual(Object.keys(native).sort(), [...members("NativeLimits").keys()].sort());
    assert.deepEqual(native, {
      maxBlockSize: limits.MAX_BLOCK_SIZE,
      maxLanes: limits.MAX_LANES,
      maxCandidates: limits.MAX_CANDIDATES,
      maxBurst: limits.MAX_BURST,
      maxPartTokens: limits.MAX_PART_TOKENS,
      maxPassTokens: limits.MAX_PASS_TOKENS,
      maxWindowPassTokens: limits.MAX_WINDOW_PASS_TOKENS,
      maxLogprobs: limits.MAX_LOGPROBS,
    });
  });

  it("lists the devices that are declared", () => {
    const devices = addon().devices(false);
    assert.ok(devices.some(({ kind }) => kind === "cpu"));
    for (const device of devices) {
      assert.deepEqual(Object.keys(device).sort(), [...members("NativeDevice").keys()].sort());
      assert.match(device.kind, /^(cpu|gpu|integrated|accelerator|other)$/);
      assert.ok(device.freeMemory <= device.totalMemory);
    }
    assert.deepEqual(
      addon()
        .devices(true)
        .map(({ name }) => name),
      devices.map(({ name }) => name),
    );
  });
});
