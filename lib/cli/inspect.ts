import type { Command } from "commander";
import { binaryInfo, type Device } from "../binary/binding.js";
import { CllmError } from "../errors.js";
import type { ContextNeeds } from "../machine/memory.js";
import type { Model } from "../model.js";
import { maxBlockSize } from "../model-info.js";
import { formatBytes } from "../pull/cache.js";
import { interruptible, UsageError } from "./exit.js";
import { type Io, write } from "./io.js";
import { DEFAULT_MODEL, withModel } from "./model.js";
import { MODEL_HELP } from "./shared-options.js";
import { blockCostAdvice, formatName } from "./weight-formats.js";

interface InspectFlags {
  json?: boolean;
  template?: boolean;
}

/** Adds `cllm inspect`, which prints what a model file holds, and what runs it here. */
export function addInspectCommand(program: Command, io: Io): void {
  program
    .command("inspect")
    .description("what a model file holds, and what runs it here")
    .argument("[model]", MODEL_HELP, DEFAULT_MODEL)
    .option("--json", "print everything as one JSON object")
    .option("--template", "print the chat template alone")
    .action((model: string, flags: InspectFlags) => inspect(model, flags, io));
}

async function inspect(source: string, { json, template }: InspectFlags, io: Io): Promise<void> {
  if (json && template) throw new UsageError("--json holds the template already: leave out --template.");
  await interruptible(io, async (signal) => {
    const text = await withModel(source, io, { signal }, async (model) => {
      if (template) return chatTemplate(model);
      const report = await collect(model);
      return json ? `${JSON.stringify(report, null, 2)}\n` : render(report, model);
    });
    await write(io.stdout, text);
  });
}

function chatTemplate({ chatTemplate, path }: Model): string {
  if (chatTemplate === null) throw new CllmError("CLLM_CHAT_TEMPLATE", `${path} has no chat template.`);
  return `${chatTemplate}\n`;
}

type Report = Awaited<ReturnType<typeof collect>>;

async function collect(model: Model) {
  const binary = binaryInfo();
  const name = formatName(model.metadata["general.file_type"]);
  return {
    path: model.path,
    info: model.info,
    fileType: { name, advice: blockCostAdvice(name, binary.products) },
    specialTokens: model.specialTokens,
    chatTemplate: model.chatTemplate,
    metadata: model.metadata,
    binary,
    decoder: await decoderReport(model),
  };
}

/** How the model is decoded here, with the options and the memory (beside the weights) of the default decoder. */
interface DecoderReport {
  runner: string;
  runnerReason: string;
  maxBlockSize: number;
  contextSize: number;
  lanes: number;
  blockSize: number;
  bytes: ContextNeeds;
  /** Bytes of the KV cache where layers with a sliding window keep the whole context (option swaFull). */
  swaFullKvBytes: number;
}

/** The runner of a decoder is known only once it exists, so this makes one: a small one, which needs little memory. */
async function decoderReport(model: Model): Promise<DecoderReport | { error: string }> {
  const { settings, needs } = model.planDecoder();
  const { contextSize, lanes, blockSize } = settings.native;
  try {
    const small = { contextSize: Math.min(contextSize, 64), blockSize: Math.min(blockSize, 2) };
    const decoder = await model.createDecoder({ ...small, threads: 1 });
    const { runner, runnerReason } = decoder.info;
    await decoder.dispose();
    const swaFullKvBytes = model.planDecoder({ swaFull: true }).needs.kv;
    const options = { maxBlockSize: maxBlockSize(model.info), contextSize, lanes, blockSize };
    return { runner, runnerReason, ...options, bytes: needs, swaFullKvBytes };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

type Row = [label: string, value: string];

const count = (value: number): string => value.toLocaleString("en-US");

function render(report: Report, model: Model): string {
  const metadata = Object.entries(report.metadata).map(([key, value]): Row => [key, shorten(value)]);
  const sections: [title: string, rows: Row[]][] = [
    ["Model", modelRows(report)],
    ["Tokenizer", tokenizerRows(report, model)],
    ["What runs it", binaryRows(report)],
    ["Metadata", metadata],
  ];
  return sections
    .map(([title, rows]) => {
      const width = Math.min(Math.max(...rows.map(([label]) => label.length), 0), 44);
      return `${title}\n${rows.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`.trimEnd()).join("\n")}\n`;
    })
    .join("\n");
}

function modelRows({ path, info, fileType }: Report): Row[] {
  const rows: Row[] = [
    ["file", path],
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
  ];
  if (info.slidingWindow !== null) rows.push(["sliding window", `${count(info.slidingWindow)} tokens`]);
  if (info.stateBytes > 0) rows.push(["recurrent state", `${formatBytes(info.stateBytes)} for each lane`]);
  return rows;
}

function tokenizerRows({ info, chatTemplate, specialTokens }: Report, model: Model): Row[] {
  const template = chatTemplate === null ? "none" : `${count(chatTemplate.length)} characters (--template prints it)`;
  return [
    ["kind", `${info.vocabType}, ${count(info.vocabSize)} tokens`],
    ["special tokens", describeSpecialTokens(model)],
    ["added by itself", addedTokens(specialTokens)],
    ["chat template", template],
  ];
}

function binaryRows({ binary, decoder, info }: Report): Row[] {
  return [
    ["binary", `${binary.cpuLevel}, ${binary.backend}: ${binary.reason}`],
    ["", binary.path],
    ["CUDA", binary.cuda],
    ...binary.devices.map((device): Row => [device.name, describeDevice(device)]),
    ["llama.cpp", `${binary.llamaVersion} (${binary.llamaCommit.slice(0, 10)})`],
    ["features", binary.features.join(" ")],
    ["products", binary.products.length > 0 ? binary.products.join(" ") : "llama.cpp's"],
    ...("error" in decoder ? [["runner", `none: ${decoder.error}`] as Row] : decoderRows(decoder, info)),
  ];
}

function decoderRows(decoder: DecoderReport, info: Report["info"]): Row[] {
  const { runner, runnerReason, bytes, contextSize, lanes, blockSize } = decoder;
  const whole = decoder.swaFullKvBytes;
  const sizes = blockSize === 1 ? "1 token" : `up to ${blockSize}`;
  const parts = [
    `${formatBytes(bytes.kv)} of KV rows${whole > bytes.kv ? ` (${formatBytes(whole)} with swaFull)` : ""}`,
    ...(bytes.states > 0 ? [`${formatBytes(bytes.states)} of recurrent states`] : []),
    `${formatBytes(bytes.logits + bytes.texts)} of logits and texts`,
  ];
  return [
    ["runner", `${runner}: ${runnerReason}`],
    ["blocks", describeBlocks(decoder.maxBlockSize, info.stateBytes > 0)],
    ["memory", parts.join(", ")],
    ["", `for the default: ${lanes} lane of ${count(contextSize)} tokens, blocks of ${sizes}`],
  ];
}

function describeBlocks(limit: number, recurrent: boolean): string {
  if (limit === 1) return "of 1 token: llama.cpp keeps no snapshots of the recurrent state";
  return `of up to ${limit} tokens${recurrent ? ", with a snapshot of the recurrent state for each" : ""}`;
}

function describeDevice({ description, freeMemory, totalMemory }: Device): string {
  return `${description}, ${formatBytes(freeMemory)} of ${formatBytes(totalMemory)} free`;
}

function describeSpecialTokens(model: Model): string {
  const names = ["bos", "eos", "eot", "nl", "pad", "sep"] as const;
  const texts = names.flatMap((name) => {
    const id = model.specialTokens[name];
    return id === null ? [] : [`${name} ${id} ${JSON.stringify(model.token(id).text)}`];
  });
  return texts.join(", ") || "none";
}

function addedTokens({ addBos, addEos }: Model["specialTokens"]): string {
  return [...(addBos ? ["bos at the start"] : []), ...(addEos ? ["eos at the end"] : [])].join(", ") || "nothing";
}

/** Shortens a metadata value, because vocabularies and templates are megabytes long. */
function shorten(value: string): string {
  const line = value.replace(/[\r\n\t]+/g, " ");
  return line.length <= 100 ? line : `${line.slice(0, 96)} ... (${count(value.length)} characters)`;
}
