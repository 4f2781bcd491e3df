import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

// This proves that test/21 can fail: each of these bugs, planted in a copy of the CUDA sources, must make it fail.
const root = path.join(__dirname, "..", "..");
const FILES = ["choose", "sample", "verify", "roll_forward", "keep_state", "advance", "device"] as const;
/** Headers with code that these sources share, or that the kernels on the CPU have too: their paths and who includes them. */
const HEADERS = {
  sampling: { folder: "native", include: "kernels/sampling.h", users: ["choose", "sample"] },
  exact_math: { folder: "native", include: "base/exact_math.h", users: ["choose", "sample"] },
  place_index: { folder: "native", include: "kernels/place_index.h", users: ["advance"] },
  draft: { folder: "native", include: "kernels/draft.h", users: ["advance"] },
  inputs: { folder: "native", include: "kernels/advance.h", users: ["advance", "keep_state"] },
  states: { folder: "native", include: "kernels/keep_state.h", users: ["keep_state"] },
  copy: { folder: ".", include: "cuda/kernels/copy.cuh", users: ["roll_forward", "keep_state"] },
  verdict: { folder: ".", include: "cuda/kernels/verify.cuh", users: ["verify", "advance"] },
} as const;
/** The checks of test/native/device_test.cpp that find the bugs of a file. */
const CHECKS: Record<Mutation["file"], string> = {
  choose: "choose",
  sample: "sampling",
  sampling: "choose,sampling",
  exact_math: "sampling",
  verify: "loop",
  verdict: "loop",
  roll_forward: "loop",
  advance: "loop,recorded",
  place_index: "loop",
  draft: "loop",
  inputs: "loop,recorded",
  states: "loop",
  copy: "loop",
  keep_state: "loop",
  device: "recorded",
};

interface Mutation {
  file: (typeof FILES)[number] | keyof typeof HEADERS;
  bug: string;
  /** Each text must be in the file exactly once. */
  edits: readonly (readonly [find: string, replace: string])[];
}

const mutations: Mutation[] = [
  { file: "choose", bug: "no barrier before the warps' results are read", edits: [["  __syncthreads();\n", ""]] },
  {
    file: "sampling",
    bug: "a tie goes to the lower key",
    edits: [["(0xffffffffu - id)", "(0xffffffffu - (id ^ 1u))"]],
  },
  { file: "sampling", bug: "-0 is below +0", edits: [["bits_of(logit == 0.0f ? 0.0f : logit)", "bits_of(logit)"]] },
  { file: "sampling", bug: "NaN is a number", edits: [["if (logit != logit) return 0xffffffffu;", ""]] },
  { file: "sampling", bug: "nine rounds of Philox", edits: [["kPhiloxRounds = 10", "kPhiloxRounds = 9"]] },
  { file: "sampling", bug: "noise of another position", edits: [["x1 = position", "x1 = position + 1"]] },
  {
    file: "sampling",
    bug: "noise of a neighbour",
    edits: [["return token / 16 % 4;", "return (token / 16 + 1) % 4;"]],
  },
  { file: "sampling", bug: "weights of half the logit", edits: [["exp_of(difference)", "exp_of(0.5f * difference)"]] },
  {
    file: "exact_math",
    bug: "a wrong coefficient in the logarithm",
    edits: [["1.1676998740e-1f", "1.1676998740e-2f"]],
  },
  {
    file: "exact_math",
    bug: "a coefficient of the logarithm loses its last digits",
    edits: [["3.3333331174e-1f", "3.3333e-1f"]],
  },
  {
    file: "exact_math",
    bug: "the logarithm's exponent is one too small",
    edits: [[">> 23);\n  const float f", ">> 23) - 1.0f;\n  const float f"]],
  },
  {
    file: "exact_math",
    bug: "the logarithm loses the low part of ln 2",
    edits: [["fmaf(e, -2.12194440e-4f, ", "fmaf(e, 0.0f, "]],
  },
  { file: "exact_math", bug: "a wrong coefficient in the exponential", edits: [["5.0000001201e-1f", "5.1e-1f"]] },
  {
    file: "exact_math",
    bug: "the exponential loses the low part of ln 2",
    edits: [["fmaf(n, 2.12194440e-4f, ", "fmaf(n, 0.0f, "]],
  },
  {
    file: "exact_math",
    bug: "the exponential is 0 too early",
    edits: [["return x < -80.0f ? 0.0f", "return x < -2.0f ? 0.0f"]],
  },
  {
    file: "sample",
    bug: "no barrier behind the histogram",
    edits: [["histogram[threadIdx.x] = 0;\n    __syncthreads();", "histogram[threadIdx.x] = 0;"]],
  },
  {
    file: "sample",
    bug: "no barrier before the histogram is read",
    edits: [
      [
        "    __syncthreads();\n    if (threadIdx.x == 0) {\n      // Larger",
        "    if (threadIdx.x == 0) {\n      // Larger",
      ],
    ],
  },
  {
    file: "sample",
    bug: "the digit above is lost",
    edits: [["prefix = prefix << 8 | *found;", "prefix = *found;"]],
  },
  {
    file: "sample",
    bug: "top-p of all tokens, not of top-k's",
    edits: [["sum_from(row, lowest, total)", "sum_from(row, 0, total)"]],
  },
  {
    file: "sample",
    bug: "one token too many is kept",
    edits: [["histogram[digit] < wanted)", "histogram[digit] <= wanted)"]],
  },
  { file: "sample", bug: "min-p is left out", edits: [["!(logit >= min_logit) ||", "logit != logit ||"]] },
  {
    file: "sample",
    bug: "the position of the row's own token",
    edits: [["position + 1 + r % block", "position + r % block"]],
  },
  { file: "sample", bug: "candidates have positions of their own", edits: [["r % block);", "r % rows_per_lane);"]] },
  { file: "sample", bug: "greedy lanes are sampled", edits: [["  if (!(sampling.temperature > 0)) return;\n", ""]] },
  { file: "sample", bug: "another lane's bias", edits: [["biases[r / rows_per_lane]", "biases[0]"]] },
  { file: "sample", bug: "one warp is left out", edits: [["int w = 1; w < kWarps", "int w = 2; w < kWarps"]] },
  {
    file: "choose",
    bug: "no head before the first aligned logit",
    edits: [["thread < head ? part[thread] : none", "none"]],
  },
  { file: "choose", bug: "no tail", edits: [["rest + thread < size ? part[rest + thread] : none", "none"]] },
  {
    file: "choose",
    bug: "reads behind the part",
    edits: [["at < vectors ? vector[at] : float4{none, none, none, none}", "vector[at]"]],
  },
  {
    file: "choose",
    bug: "the last logits of some parts are left out",
    edits: [["int64_t end = fours * (blockIdx.y + 1) / splits * 4;", "int64_t end = begin + fours / splits * 4;"]],
  },
  { file: "choose", bug: "a thread prefers the later of equals", edits: [["top > highest", "top >= highest"]] },
  {
    file: "choose",
    bug: "the last of equals in a vector",
    edits: [["x == top ? 0 : y == top ? 1 : z == top ? 2 : 3", "w == top ? 3 : z == top ? 2 : y == top ? 1 : 0"]],
  },
  { file: "choose", bug: "-inf does not replace NaN", edits: [[" && highest == highest", ""]] },
  {
    file: "choose",
    bug: "the second block writes, not the last",
    edits: [["!= static_cast<unsigned long long>(splits)) return false;", "< 2) return false;"]],
  },
  {
    file: "choose",
    bug: "a block is counted before its key is merged",
    edits: [
      ["  atomicMax(&scratch[row].key, best);\n", ""],
      [
        "  if (atomicAdd(&scratch[row].blocks, 1ull) + 1 !=",
        "  const auto counted = atomicAdd(&scratch[row].blocks, 1ull) + 1;\n  atomicMax(&scratch[row].key, best);\n  if (counted !=",
      ],
    ],
  },
  {
    file: "choose",
    bug: "the count of blocks is not reset",
    edits: [["  atomicExch(&scratch[row].blocks, 0ull);\n", ""]],
  },
  { file: "choose", bug: "one warp is left out", edits: [["int w = 1; w < kWarps", "int w = 1; w < kWarps - 1"]] },
  {
    file: "verdict",
    bug: "the last choice is compared with what is behind the block",
    edits: [["first_where(n - 1,", "first_where(n,"]],
  },
  {
    file: "verdict",
    bug: "ties go to the last candidate",
    edits: [["if (accepted > verdict.accepted)", "if (accepted >= verdict.accepted)"]],
  },
  {
    file: "verdict",
    bug: "the budget is not a limit",
    edits: [["verdict.accepted + 1 < lane.budget ? verdict.accepted + 1 : lane.budget", "verdict.accepted + 1"]],
  },
  {
    file: "verdict",
    bug: "the end-of-generation token is not emitted",
    edits: [["end < limit ? end + 1 : limit", "end"]],
  },
  { file: "verdict", bug: "stopped lanes go on", edits: [["if (!lane_runs(lane, n)) return verdict;", ""]] },
  {
    file: "verdict",
    bug: "what another candidate held counts as stationary",
    edits: [[" && tokens[j] == tokens[row + j]", ""]],
  },
  { file: "roll_forward", bug: "one row too many", edits: [["j >= verdict.emitted", "j > verdict.emitted"]] },
  {
    file: "copy",
    bug: "the end of odd rows is left out",
    edits: [["if (bits % sizeof(Unit) != 0) return false;", ""]],
  },
  {
    file: "copy",
    bug: "rows of an odd number of bytes",
    edits: [["  copy_as<char>(to, from, bytes);\n", ""]],
  },
  { file: "roll_forward", bug: "another lane's stream", edits: [["args.first_stream + b", "b"]] },
  { file: "roll_forward", bug: "the next candidate's rows", edits: [["(verdict.winner - 1)", "(verdict.winner)"]] },
  {
    file: "advance",
    bug: "no barrier between reading the old state and writing the new",
    edits: [["  __syncthreads();  // all threads have read", "  // all threads have read"]],
  },
  { file: "advance", bug: "reads behind the block", edits: [["slot < n && block[slot]", "block[slot]"]] },
  {
    file: "advance",
    bug: "another lane's stream",
    edits: [["static_cast<int64_t>(args.inputs.first_stream) + b", "static_cast<int64_t>(b)"]],
  },
  { file: "advance", bug: "mask one cell early", edits: [["p + r + 1 : p", "p + r : p"]] },
  { file: "advance", bug: "stopped lanes get new inputs", edits: [["  if (!lane_runs(lane, n)) return false;\n", ""]] },
  {
    file: "advance",
    bug: "a choice too few is kept",
    edits: [["kept = n - verdict.emitted;", "kept = n - verdict.emitted - 1;"]],
  },
  {
    file: "advance",
    bug: "what was emitted is not remembered",
    edits: [["i < verdict.emitted; i += kThreads) lane.tokens", "i < 0; i += kThreads) lane.tokens"]],
  },
  {
    file: "advance",
    bug: "a key of one token is enough",
    edits: [["from.length >= min_key_length(mode)", "from.length > 0"]],
  },
  {
    file: "advance",
    bug: "the first of the new places becomes the latest",
    edits: [["after >= keys && work.buckets[i] >= 0", "i < kMaxKeyLength && work.buckets[i] >= 0"]],
  },
  {
    file: "advance",
    bug: "new places do not see one another",
    edits: [["before >= 0 ? p + 1 + before / kMaxKeyLength : index.latest[bucket]", "index.latest[bucket]"]],
  },
  {
    file: "advance",
    bug: "keys do not reach back to the tokens before",
    edits: [["work.recent[j - place]", "work.recent[0]"]],
  },
  {
    file: "advance",
    bug: "no barrier before the latest places are written",
    edits: [
      [
        "  __syncthreads();\n  for (int32_t i = thread; i < keys; i += kThreads) {\n    int32_t after",
        "  for (int32_t i = thread; i < keys; i += kThreads) {\n    int32_t after",
      ],
    ],
  },
  {
    file: "advance",
    bug: "no barrier before places are looked up",
    edits: [["choices, work);\n  __syncthreads();\n  complete", "choices, work);\n  complete"]],
  },
  {
    file: "advance",
    bug: "what follows the kept choices is looked up without them",
    edits: [["{lane.tokens, size, block, kept}, lane.index()", "{lane.tokens, size, block, 0}, lane.index()"]],
  },
  {
    file: "advance",
    bug: "the shortest key wins",
    edits: [
      ["int32_t length = kMaxKeyLength;\n", "int32_t length = 1;\n"],
      [
        "while (length > 0 && places[length - 1] == 0) length--;",
        "while (length < 3 && places[length - 1] == 0) length++;",
      ],
      ["{length > 0 ? places[length - 1] : 0, length}", "{places[length - 1], places[length - 1] > 0 ? length : 0}"],
    ],
  },
  {
    file: "advance",
    bug: "records of another iteration",
    edits: [["ring_stamp(iteration)", "ring_stamp(iteration - 1)"]],
  },
  {
    file: "advance",
    bug: "records in another slot",
    edits: [["iteration % args.ring.slots", "(iteration + 1) % args.ring.slots"]],
  },
  {
    file: "advance",
    bug: "lanes that have stopped keep the loop going",
    edits: [["if (runs) atomicAdd", "atomicAdd"]],
  },
  {
    file: "advance",
    bug: "the first pass of an iteration ends it",
    edits: [["!= static_cast<uint32_t>(loop.lanes)", "!= gridDim.x"]],
  },
  {
    file: "advance",
    bug: "the lanes that are done are counted on",
    edits: [["  atomicExch(&state.arrived, 0u);\n", ""]],
  },
  { file: "advance", bug: "iterations are not counted", edits: [["  state.iteration = iteration + 1;\n", ""]] },
  {
    file: "advance",
    bug: "the loop's end is not told",
    edits: [["goes_on ? 1u : 0u);", "iteration < 20 ? 1u : 0u);"]],
  },
  {
    file: "inputs",
    bug: "one iteration too many",
    edits: [["limit - iterations_done) > 0", "limit - iterations_done) >= 0"]],
  },
  { file: "inputs", bug: "the loop ignores its lanes", edits: [["return running > 0 && ", "return "]] },
  {
    file: "place_index",
    bug: "a key of three tokens is hashed like one of two",
    edits: [["if (i >= length) break;", "if (i >= length || i > 1) break;"]],
  },
  {
    file: "draft",
    bug: "what is drafted is not repeated",
    edits: [["- view.drafted - 1) % period", "- view.drafted - 1) % (period + 1)"]],
  },
  { file: "draft", bug: "lookups have no end", edits: [["place > 0 && seen < kMaxPlaces", "place > 0"]] },
  { file: "draft", bug: "a place with another key", edits: [["if (same && !taken", "if (!taken"]] },
  {
    file: "draft",
    bug: "a candidate like the one before",
    edits: [["same && !taken.has(view.tokens[place])", "same"]],
  },
  {
    file: "device",
    bug: "a loop that is recorded does not begin",
    edits: [["recording->graph, 1, cudaGraphCondAssignDefault", "recording->graph, 0, cudaGraphCondAssignDefault"]],
  },
  {
    file: "device",
    bug: "a capture that fails goes on",
    edits: [["      failure = std::current_exception();\n", "      throw;\n"]],
  },
  { file: "device", bug: "kernels outside a loop set its condition", edits: [["    condition_ = 0;\n", ""]] },
  {
    file: "device",
    bug: "an iteration is recorded where a loop was asked for",
    edits: [
      ["kind == Recorded::kLoop ? record_loop(iteration) : record_iteration(iteration)", "record_iteration(iteration)"],
    ],
  },
  { file: "advance", bug: "a draft that is looked up stands behind own choices", edits: [["    kept = 0;\n", ""]] },
  { file: "advance", bug: "the end is forgotten", edits: [["    args.lanes[b].ended = lane.ended;\n", ""]] },
  {
    file: "advance",
    bug: "standing still is looked up one slot off",
    edits: [["slot = verdict.emitted + j;", "slot = verdict.emitted + j + 1;"]],
  },
  {
    file: "advance",
    bug: "candidates do not see what was emitted",
    edits: [["i < rows * emitted", "i < n * emitted"]],
  },
  { file: "inputs", bug: "a window one token too large", edits: [["position - size + 1;", "position - size;"]] },
  {
    file: "inputs",
    bug: "chunks slide",
    edits: [["    if (chunked != 0) return position / size * size;\n", ""]],
  },
  {
    file: "inputs",
    bug: "cells do not come round",
    edits: [["return position % static_cast<int32_t>(kv_size);", "return position;"]],
  },
  { file: "inputs", bug: "all lanes have the state of one", edits: [["plane * lanes + lane;", "plane * lanes;"]] },
  {
    file: "advance",
    bug: "what has left the window stays",
    edits: [["inputs.window.size > 0) hide_by_all", "false) hide_by_all"]],
  },
  {
    file: "advance",
    bug: "the last row to leave the window stays",
    edits: [["position < left; position", "position < left - 1; position"]],
  },
  {
    file: "advance",
    bug: "emitted tokens outside of the window are shown",
    edits: [["    if (position < inputs.window.first_seen(p + emitted + r % n)) continue;\n", ""]],
  },
  { file: "advance", bug: "scratch rows do not leave the window", edits: [["next + i >= left);", "true);"]] },
  { file: "advance", bug: "scratch rows of the next candidate", edits: [["(r / n - 1) * n;", "(r / n) * n;"]] },
  {
    file: "advance",
    bug: "layers with a window are left out",
    edits: [["  advance_attention_by_all(inputs.windowed, args, b, first, p, verdict.emitted);\n", ""]],
  },
  {
    file: "advance",
    bug: "the fourth part of M-RoPE is written",
    edits: [["position_parts == 1 ? 1 : 3)", "position_parts)"]],
  },
  {
    file: "advance",
    bug: "only the first part of M-RoPE is written",
    edits: [["position_parts == 1 ? 1 : 3)", "position_parts > 0)"]],
  },
  {
    file: "advance",
    bug: "the state one token too early",
    edits: [["runs ? n - emitted :", "runs ? n - emitted + 1 :"]],
  },
  {
    file: "advance",
    bug: "stopped lanes start from a plane that passes write",
    edits: [["runs ? n - emitted : inputs.states.spare_plane", "n - emitted"]],
  },
  {
    file: "advance",
    bug: "the state of another lane",
    edits: [["const int32_t stream = inputs.first_stream + b;", "const int32_t stream = b;"]],
  },
  {
    file: "advance",
    bug: "stopped lanes with a state write their KV rows again",
    edits: [["(inputs.full, stream, first, n, lane.row_end, 0)", "(inputs.full, stream, first, n, lane.position, 1)"]],
  },
  {
    file: "advance",
    bug: "stopped lanes write behind their spare row",
    edits: [
      ["(inputs.windowed, stream, first, n, lane.row_end, 0)", "(inputs.windowed, stream, first, n, lane.row_end, 1)"],
    ],
  },
  {
    file: "keep_state",
    bug: "the state one token too early",
    edits: [["verdict.emitted, args", "verdict.emitted + 1, args"]],
  },
  { file: "keep_state", bug: "the state of another lane", edits: [["emitted, args.first_lane + b", "emitted, b"]] },
  {
    file: "keep_state",
    bug: "into another lane's row",
    edits: [["spare_plane, args.first_lane + b", "spare_plane, b"]],
  },
  { file: "keep_state", bug: "the first tensor only", edits: [["args.tensors[blockIdx.x]", "args.tensors[0]"]] },
  {
    file: "states",
    bug: "lanes that go on keep a state",
    edits: [["emitted > 0 && !lane_runs(lane, block)", "emitted > 0"]],
  },
  { file: "states", bug: "lanes that stopped before keep another state", edits: [["verdict.emitted > 0 && ", ""]] },
  {
    file: "advance",
    bug: "no barrier before what was looked up is read",
    edits: [["work.places[1]);\n  __syncthreads();\n", "work.places[1]);\n"]],
  },
  {
    file: "advance",
    bug: "no barrier before the draft is read",
    edits: [["(lane, kept, n, work);\n  __syncthreads();\n", "(lane, kept, n, work);\n"]],
  },
  {
    file: "advance",
    bug: "no barrier between two candidates",
    edits: [["    __syncthreads();  // before `places`", "    // before `places`"]],
  },
  {
    file: "advance",
    bug: "no barrier before a candidate is written",
    edits: [["count}, 0, work.places[0]);\n    __syncthreads();\n", "count}, 0, work.places[0]);\n"]],
  },
];

const isHeader = (file: Mutation["file"]): file is keyof typeof HEADERS => file in HEADERS;

describe("bugs in the CUDA sources are found", function () {
  this.timeout(120_000);
  const compiler = process.env.CXX ?? "c++";
  let directory: string;
  before(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-mutations-"));
    // What all sources include is compiled once: it takes longer than the rest of most sources.
    const common = ["cuda_runtime.h", "atomic", "cmath", "functional", "span", "vector"];
    fs.writeFileSync(path.join(directory, "common.h"), common.map((name) => `#include <${name}>\n`).join(""));
    call([...flags(), "-xc++-header", path.join(directory, "common.h"), "-o", path.join(directory, "common.h.gch")]);
    for (const file of FILES) compile(path.join(root, "cuda", "kernels", `${file}.cu`), object(file));
  });
  after(() => fs.rmSync(directory, { recursive: true, force: true }));

  const object = (name: string) => path.join(directory, `${name}.o`);
  function call(args: string[]): void {
    const child = spawnSync(compiler, args, { encoding: "utf8" });
    assert.equal(child.status, 0, child.stderr);
  }
  function flags(...first: string[]): string[] {
    const folders = [...first, path.join(root, "test", "cuda_harness"), path.join(root, "native"), root];
    return ["-std=c++20", "-O1", "-DCLLM_CUDA_HARNESS=1", ...folders.map((at) => `-I${at}`)];
  }
  function compile(source: string, target: string, ...first: string[]): void {
    call([...flags(...first), "-include", path.join(directory, "common.h"), "-xc++", "-c", source, "-o", target]);
  }
  /** Whether the program passes in the first three orders of threads. */
  function passes(objects: string[], checks: string): boolean {
    const program = path.join(directory, "program");
    const library = path.join(root, ".cmake", "native", "lib", "libcllm-harness.a");
    call([...objects, "-Wl,--whole-archive", library, "-Wl,--no-whole-archive", "-o", program]);
    return [1, 2, 3].every((seed) => {
      const env = { ...process.env, CLLM_HARNESS_SEED: String(seed) };
      return spawnSync(program, ["--quick", "--only", checks], { env, timeout: 60_000 }).status === 0;
    });
  }

  it("and without a bug the program passes", () => assert.equal(passes(FILES.map(object), ""), true));

  for (const { file, bug, edits } of mutations) {
    it(`${file}: ${bug}`, () => {
      const header = isHeader(file) ? HEADERS[file] : null;
      const original = header ? path.join(header.folder, header.include) : `cuda/kernels/${file}.cu`;
      let source = fs.readFileSync(path.join(root, original), "utf8");
      for (const [find, replace] of edits) {
        assert.equal(source.split(find).length, 2, `Expected ${JSON.stringify(find)} exactly once in ${original}`);
        source = source.replace(find, replace);
      }
      // The mutant lies in a folder of its own, which is searched first. So the CUDA sources include the mutated header in
      // place of the real one, while the CPU's kernels are compiled already.
      const folder = path.join(directory, "mutant");
      const mutant = path.join(folder, header ? header.include : `${file}.cu`);
      fs.rmSync(folder, { recursive: true, force: true });
      fs.mkdirSync(path.dirname(mutant), { recursive: true });
      fs.writeFileSync(mutant, source);
      const changed: readonly string[] = header ? header.users : [file];
      for (const name of changed) {
        const from = header ? path.join(root, "cuda", "kernels", `${name}.cu`) : mutant;
        compile(from, object(`mutant-${name}`), folder);
      }
      const objects = FILES.map((name) => object(changed.includes(name) ? `mutant-${name}` : name));
      assert.equal(passes(objects, CHECKS[file]), false, "Expected the test to fail but it passed");
    });
  }
});
