import { binaryInfo, type Device } from "../binary/binding.js";
import type { Decoder } from "../decoder.js";
import type { Model } from "../model.js";
import { formatBytes } from "../pull/cache.js";
import { blockCostAdvice, fileTypeName } from "./formats.js";
import { EXIT, type Io, interruptible, UsageError, write } from "./io.js";
import { withModel } from "./model.js";

export interface InspectFlags {
  json?: boolean;
  template?: boolean;
}

/** `cllm inspect`: what a model file is, and what would run it here. */
export async function inspect(source: string, flags: InspectFlags, io: Io): Promise<number> {
  if (flags.json && flags.template) throw new UsageError("--json holds the template already: leave out --template.");
  return interruptible(io, async (signal) => {
    const text = await withModel(source, io, signal, async (model) => {
      if (flags.template) {
        if (model.chatTemplate === null) throw new Error(`${model.path} has no chat template.`);
        return `${model.chatTemplate}\n`;
      }
      const report = await collect(model);
      return flags.json ? `${JSON.stringify(report, null, 2)}\n` : render(report, model);
    });
    await write(io.stdout, text);
    return EXIT.ok;
  });
}

type Report = Awaited<ReturnType<typeof collect>>;

async function collect(model: Model) {
  const binary = binaryInfo();
  const name = fileTypeName(model.metadata["general.file_type"]);
  return {
    path: model.path,
    info: model.info,
    fileType: { name, advice: blockCostAdvice(name, binary.features) },
    specialTokens: model.specialTokens,
    chatTemplate: model.chatTemplate,
    metadata: model.metadata,
    binary,
    decoder: await decoderInfo(model),
  };
}

/** Which runner a decoder gets is known only once there is one: a small one will do. */
async function decoderInfo(model: Model): Promise<Decoder["info"] | { error: string }> {
  try {
    const decoder = await model.createDecoder({ contextSize: 64, threads: 1, blockSize: 1 });
    const { info } = decoder;
    await decoder.dispose();
    return info;
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

function render(report: Report, model: Model): string {
  const { info, binary, decoder, fileType } = report;
  const count = (value: number): string => value.toLocaleString("en-US");
  const template = report.chatTemplate;
  const sections: [string, [string, string][]][] = [
    [
      "Model",
      [
        ["file", report.path],
        ["what", info.description],
        ["architecture", info.architecture],
        ["parameters", count(info.parameterCount)],
        ["size of weights", formatBytes(info.fileSize)],
        ["packed in memory", formatBytes(info.packedBytes)],
        [
          "layers",
          `${info.layerCount} of width ${info.embeddingSize}, ${info.headCount} heads (${info.headCountKv} for KV)`,
        ],
        ["trained context", `${count(info.trainContextSize)} tokens`],
        ["format", fileType.name],
        ["", fileType.advice],
        ...(info.canRollBack
          ? []
          : [["blocks", "its state cannot be rolled back: block size 1 only"] as [string, string]]),
      ],
    ],
    [
      "Tokenizer",
      [
        ["kind", `${info.vocabType}, ${count(info.vocabSize)} tokens`],
        ["special tokens", specialTokens(model)],
        ["added by itself", addedTokens(report.specialTokens)],
        ["chat template", template === null ? "none" : `${count(template.length)} characters (--template prints it)`],
      ],
    ],
    [
      "What runs it",
      [
        ["binary", `${binary.cpuLevel}, ${binary.backend}: ${binary.reason}`],
        ["", binary.path],
        ["CUDA", binary.cuda],
        ...binary.devices.map((device): [string, string] => [device.name, describeDevice(device)]),
        ["llama.cpp", `${binary.llamaVersion} (${binary.llamaCommit.slice(0, 10)})`],
        ["features", binary.features.join(" ")],
        ["runner", "error" in decoder ? `none: ${decoder.error}` : `${decoder.runner}: ${decoder.runnerReason}`],
      ],
    ],
    ["Metadata", Object.entries(report.metadata).map(([key, value]) => [key, shorten(value)])],
  ];
  return sections
    .map(([title, rows]) => {
      const width = Math.min(Math.max(...rows.map(([key]) => key.length), 0), 44);
      return `${title}\n${rows.map(([key, value]) => `  ${key.padEnd(width)}  ${value}`.trimEnd()).join("\n")}\n`;
    })
    .join("\n");
}

function describeDevice({ description, freeMemory, totalMemory }: Device): string {
  return `${description}, ${formatBytes(freeMemory)} of ${formatBytes(totalMemory)} free`;
}

function specialTokens(model: Model): string {
  const { specialTokens } = model;
  const names = ["bos", "eos", "eot", "nl", "pad", "sep"] as const;
  const known = names.flatMap((name) => {
    const id = specialTokens[name];
    return id === null ? [] : [`${name} ${id} ${JSON.stringify(model.token(id).text)}`];
  });
  return known.join(", ") || "none";
}

function addedTokens({ addBos, addEos }: Model["specialTokens"]): string {
  return [...(addBos ? ["bos at the start"] : []), ...(addEos ? ["eos at the end"] : [])].join(", ") || "nothing";
}

/** Vocabularies and templates are metadata too, and megabytes long. */
function shorten(value: string): string {
  const line = value.replace(/[\r\n\t]+/g, " ");
  return line.length <= 100 ? line : `${line.slice(0, 96)} ... (${value.length.toLocaleString("en-US")} characters)`;
}
