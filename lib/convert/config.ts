import type { GgufValue } from "./gguf-writer.js";
import { isRecord, type Json, show } from "./json-files.js";
import { invalid, unsupported } from "./refusals.js";

/** What a checkpoint's config.json says of the model, with the defaults of the transformers library. */
export interface Config {
  architecture: "llama" | "qwen2" | "qwen3";
  layers: number;
  embedding: number;
  heads: number;
  headsKv: number;
  /** Elements of a head. */
  headSize: number;
  /** Whether the file names the size of a head, or it follows from the embedding. */
  namesHeadSize: boolean;
  feedForward: number;
  vocab: number;
  contextLength: number;
  rmsEpsilon: number;
  tied: boolean;
  rope: Rope;
  json: Json;
}

/** No size of a known model comes near; vocabularies are listed in memory. */
const MOST = 2_000_000;

type Rope = { base: number } & (
  | { scaling: "none" }
  | { scaling: "linear"; factor: number }
  | { scaling: "yarn"; factor: number; originalContext: number }
  | { scaling: "llama3"; factor: number; low: number; high: number; originalContext: number }
);

const ARCHITECTURES: Record<string, Config["architecture"]> = {
  LlamaForCausalLM: "llama",
  LLaMAForCausalLM: "llama",
  Qwen2ForCausalLM: "qwen2",
  Qwen3ForCausalLM: "qwen3",
};

/**
 * Reads config.json. What llama.cpp's graph of the architecture would not compute is refused, because it would be dropped
 * without a word.
 *
 * @throws {@link CllmError} `CLLM_UNSUPPORTED_MODEL`, `CLLM_INVALID_MODEL`
 */
export function readConfig(where: string, json: Json): Config {
  const name = Array.isArray(json.architectures) ? json.architectures[0] : undefined;
  const architecture = typeof name === "string" && Object.hasOwn(ARCHITECTURES, name) ? ARCHITECTURES[name] : undefined;
  if (architecture === undefined) {
    throw unsupported(
      where,
      `the architecture ${name === undefined ? "(none)" : show(name)}; ${Object.keys(ARCHITECTURES).join(", ")} are converted`,
    );
  }
  refuseOthers(where, json);
  const number = (key: string, fallback: number | null, least = 1): number => {
    const value = json[key] ?? fallback;
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= MOST) return value;
    throw invalid(where, `${key} is ${show(value)}, not a whole number from ${least} to ${MOST}`);
  };
  const embedding = number("hidden_size", null);
  const heads = number("num_attention_heads", null);
  const headsKv = number("num_key_value_heads", heads);
  const namesHeadSize = json.head_dim !== undefined && json.head_dim !== null;
  if (!namesHeadSize && embedding % heads !== 0) {
    throw invalid(where, `hidden_size ${embedding} is no multiple of num_attention_heads ${heads}`);
  }
  if (heads % headsKv !== 0) {
    throw invalid(where, `num_attention_heads ${heads} is no multiple of num_key_value_heads ${headsKv}`);
  }
  const headSize = number("head_dim", architecture === "qwen3" ? 128 : embedding / heads);
  if (headSize % 2 !== 0) throw invalid(where, `head_dim is ${headSize}, not even`);
  const rmsEpsilon = json.rms_norm_eps ?? 1e-6;
  if (!isPositive(rmsEpsilon)) throw invalid(where, "rms_norm_eps is no positive number");
  const rope = readRope(where, json);
  if (architecture === "qwen2" && headSize * heads !== embedding) {
    throw unsupported(where, `a head_dim of ${headSize}, which llama.cpp's qwen2 has not`);
  }
  if (architecture !== "llama" && rope.scaling === "llama3") {
    throw unsupported(where, `the rope scaling "llama3", which llama.cpp's ${architecture} has not`);
  }
  return {
    architecture,
    layers: number("num_hidden_layers", null),
    embedding,
    heads,
    headsKv,
    headSize,
    // transformers adds head_dim to the configurations of these architectures, and so llama.cpp's converter finds it.
    namesHeadSize: namesHeadSize || architecture !== "qwen2",
    feedForward: number("intermediate_size", null),
    vocab: number("vocab_size", null),
    contextLength: number("max_position_embeddings", architecture === "llama" ? 2048 : 32768),
    rmsEpsilon,
    tied: json.tie_word_embeddings === true,
    rope,
    json,
  };
}

/** The keys of a GGUF file that describe the model, as llama.cpp reads them. */
export function configKeys(config: Config): [string, GgufValue][] {
  const { architecture, rope } = config;
  const u32 = (key: string, value: number): [string, GgufValue] => [`${architecture}.${key}`, { type: "u32", value }];
  const f32 = (key: string, value: number): [string, GgufValue] => [`${architecture}.${key}`, { type: "f32", value }];
  const keys = [
    u32("block_count", config.layers),
    u32("context_length", config.contextLength),
    u32("embedding_length", config.embedding),
    u32("feed_forward_length", config.feedForward),
    u32("attention.head_count", config.heads),
    u32("attention.head_count_kv", config.headsKv),
    f32("rope.freq_base", rope.base),
    f32("attention.layer_norm_rms_epsilon", config.rmsEpsilon),
  ];
  if (config.namesHeadSize)
    keys.push(u32("attention.key_length", config.headSize), u32("attention.value_length", config.headSize));
  if (architecture === "llama")
    keys.push(u32("vocab_size", config.vocab), u32("rope.dimension_count", config.headSize));
  if (rope.scaling === "linear" || rope.scaling === "yarn") {
    keys.push([`${architecture}.rope.scaling.type`, { type: "string", value: rope.scaling }]);
    keys.push(f32("rope.scaling.factor", rope.factor));
  }
  if (rope.scaling === "yarn") keys.push(u32("rope.scaling.original_context_length", rope.originalContext));
  return keys;
}

/**
 * The factors by which Llama 3 divides the frequencies of its rotary embedding, [head_dim / 2], or null for other models.
 * Every step is rounded to F32, and a number over a tensor is the number times the reciprocal, as in PyTorch.
 */
export function ropeFactors({ rope, headSize }: Config): Float32Array | null {
  if (rope.scaling !== "llama3") return null;
  const f = Math.fround;
  const lowWavelength = f(rope.originalContext / rope.low);
  const highWavelength = f(rope.originalContext / rope.high);
  return Float32Array.from({ length: headSize / 2 }, (_, i) => {
    const frequency = f(1 / f(rope.base ** f((2 * i) / headSize)));
    const wavelength = f(f(1 / frequency) * f(2 * Math.PI));
    if (wavelength < highWavelength) return 1;
    if (wavelength > lowWavelength) return rope.factor;
    const smooth = f(f(f(f(1 / wavelength) * rope.originalContext) - rope.low) / f(rope.high - rope.low));
    return f(1 / f(f(f(1 - smooth) / rope.factor) + smooth));
  });
}

function readRope(where: string, json: Json): Rope {
  // transformers 5 writes one object, rope_parameters. A rope_scaling beside it takes its place.
  const [parameters, scaling] = [json.rope_parameters ?? {}, json.rope_scaling ?? {}];
  if (!isRecord(parameters) || !isRecord(scaling)) throw invalid(where, "rope_parameters or rope_scaling is no object");
  const chosen = Object.keys(scaling).length > 0 ? scaling : parameters;
  if (Object.values(chosen).some(isRecord)) throw unsupported(where, "a rotary embedding for each type of layer");
  const base = chosen.rope_theta ?? parameters.rope_theta ?? json.rope_theta ?? 10000;
  if (!isPositive(base)) throw invalid(where, "rope_theta is no positive number");
  const kind = chosen.rope_type ?? chosen.type ?? "default";
  const number = (key: string): number => {
    const value = chosen[key];
    if (isPositive(value)) return value;
    throw invalid(where, `${key} of the rope scaling is no positive number`);
  };
  const context = (fallback: unknown): number => {
    const value = chosen.original_max_position_embeddings ?? json.original_max_position_embeddings ?? fallback;
    if (Number.isSafeInteger(value) && isPositive(value) && value < 2 ** 31) return value;
    throw invalid(where, "original_max_position_embeddings of the rope scaling is no whole number");
  };
  switch (kind) {
    case "default":
      return { base, scaling: "none" };
    case "linear":
      return { base, scaling: "linear", factor: number("factor") };
    case "yarn": {
      // llama.cpp computes with these values whatever the file says.
      const fixed: Json = { beta_fast: 32, beta_slow: 1, extrapolation_factor: 1, truncate: true };
      for (const [key, value] of Object.entries(fixed)) {
        if (chosen[key] != null && chosen[key] !== value)
          throw unsupported(where, `${key} ${show(chosen[key])} in its yarn`);
      }
      for (const key of ["attention_factor", "mscale", "mscale_all_dim"]) {
        if (chosen[key] != null) throw unsupported(where, `${key} in its yarn`);
      }
      return {
        base,
        scaling: "yarn",
        factor: number("factor"),
        originalContext: context(json.max_position_embeddings),
      };
    }
    case "llama3": {
      const [low, high] = [number("low_freq_factor"), number("high_freq_factor")];
      if (low >= high) throw invalid(where, "low_freq_factor of the rope scaling is not below high_freq_factor");
      return { base, scaling: "llama3", factor: number("factor"), low, high, originalContext: context(undefined) };
    }
    default:
      throw unsupported(where, `the rope scaling ${show(kind)}; linear, llama3 and yarn are converted`);
  }
}

/** Whether it is a number above 0 that an F32 can hold. */
function isPositive(value: unknown): value is number {
  return typeof value === "number" && Math.fround(value) > 0 && Number.isFinite(Math.fround(value));
}

function refuseOthers(where: string, json: Json): void {
  if (json.quantization_config != null) {
    throw unsupported(where, "quantised weights (quantization_config); convert the model that they were made of");
  }
  const activation = json.hidden_act ?? "silu";
  if (activation !== "silu" && activation !== "swish") {
    throw unsupported(where, `the activation ${show(activation)}; silu is converted`);
  }
  const layerTypes = Array.isArray(json.layer_types) ? json.layer_types : [];
  if (json.use_sliding_window === true || layerTypes.some((type) => type !== "full_attention")) {
    throw unsupported(where, "a sliding window");
  }
  const share = json.partial_rotary_factor ?? 1;
  if (share !== 1) throw unsupported(where, `a rotary embedding of a part of the head (${show(share)})`);
}
