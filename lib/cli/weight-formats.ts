/** Names of the values of a GGUF's `general.file_type`: llama_ftype in llama.cpp's include/llama.h. */
const FORMAT_NAMES: Readonly<Record<number, string>> = {
  0: "F32",
  1: "F16",
  2: "Q4_0",
  3: "Q4_1",
  7: "Q8_0",
  8: "Q5_0",
  9: "Q5_1",
  10: "Q2_K",
  11: "Q3_K_S",
  12: "Q3_K_M",
  13: "Q3_K_L",
  14: "Q4_K_S",
  15: "Q4_K_M",
  16: "Q5_K_S",
  17: "Q5_K_M",
  18: "Q6_K",
  19: "IQ2_XXS",
  20: "IQ2_XS",
  21: "Q2_K_S",
  22: "IQ3_XS",
  23: "IQ3_XXS",
  24: "IQ1_S",
  25: "IQ4_NL",
  26: "IQ3_S",
  27: "IQ3_M",
  28: "IQ2_S",
  29: "IQ2_M",
  30: "IQ4_XS",
  31: "IQ1_M",
  32: "BF16",
  36: "TQ1_0",
  37: "TQ2_0",
  38: "MXFP4_MOE",
  39: "NVFP4",
  40: "Q1_0",
  41: "Q2_0",
};

/** Formats that `cllm quantize` suggests; llama.cpp knows more. */
export const COMMON_FORMATS = ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_1", "Q4_0"];

export function formatName(fileType: string | undefined): string {
  return FORMAT_NAMES[Number(fileType ?? Number.NaN)] ?? "unknown";
}

/** Formats that native/llama/packed_product.cpp packs for products of our own, BF16 apart. */
const PACKED_FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "F16"];

/**
 * Says what the format means for the cost of a block on a CPU. Our own products come first; `products` are those of
 * binaryInfo(). Without them, llama.cpp has kernels for several tokens at a time for the formats named below on x86-64:
 * repacked rows (ggml-cpu/repack.cpp) and tiles (llamafile/sgemm.cpp).
 */
export function blockCostAdvice(format: string, products: readonly string[]): string {
  const convert = (to: string): string => `\`cllm quantize MODEL OUT ${to}\``;
  const cheapBf16 = products.some((name) => name.endsWith("-bf16"));
  if (format === "BF16" && cheapBf16) {
    return "Blocks are very cheap: with AVX-512 BF16 a block of 16 costs only a few times one token.";
  }
  if (format === "F16" && cheapBf16) return `Blocks are cheap; BF16 makes them cheaper still here: ${convert("BF16")}.`;
  if (products.length > 0 && (format === "BF16" || PACKED_FORMATS.includes(format))) {
    return "Blocks are cheap: packed weights, unpacked once for all tokens of a block.";
  }
  switch (format) {
    case "Q4_0":
    case "IQ4_NL":
    case "MXFP4_MOE":
      return "Blocks are cheap: the layers run on repacked kernels that work on several tokens at a time.";
    case "BF16":
      return `On this CPU F16 is the better 16-bit format: ${convert("F16")}.`;
    case "F16":
      return "Blocks are cheap: tiled kernels share each weight between the tokens of a block.";
    case "F32":
      return `Blocks are cheap, but each token reads four bytes per weight: ${convert("BF16")} or ${convert("Q4_0")}.`;
    case "Q8_0":
      return `Blocks cost some: tiled kernels, not repacked ones. ${convert("Q4_0")} is faster where its loss is acceptable.`;
    case "unknown":
      return "The file does not say its format.";
    default:
      return `Blocks are expensive: this format has no kernels for several tokens at a time. Faster: ${convert("Q4_0")}.`;
  }
}
