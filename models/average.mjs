// The mean of two files of one model, weight by weight, with the metadata of the second. It keeps what a model knew
// before further training and what it has learned by it (WiSE-FT, arXiv 2109.01903).
//   node models/average.mjs --base before.gguf --tuned after.gguf --share 0.4 --out FILE
// --share is the weight of the tuned file. Both must have the same tensors in the same order, in F32 and BF16.
import fs from "node:fs";
import { parseArgs } from "node:util";
import { GGMLQuantizationType, gguf } from "@huggingface/gguf";

const { F32, BF16 } = GGMLQuantizationType;
const { values } = parseArgs({
  options: {
    base: { type: "string" },
    tuned: { type: "string" },
    share: { type: "string" },
    out: { type: "string" },
  },
});
const { base, tuned, out } = values;
const share = Number(values.share);
if (!base || !tuned || !out || !(share >= 0 && share <= 1)) {
  throw new Error("Expected --base FILE --tuned FILE --share 0..1 --out FILE");
}

const floats = new Float32Array(1);
const bits = new Uint32Array(floats.buffer);
const fromBf16 = (half) => {
  bits[0] = half << 16;
  return floats[0];
};
/** Rounds to nearest, ties to even. */
const toBf16 = (value) => {
  floats[0] = value;
  return ((bits[0] + 0x7fff + ((bits[0] >>> 16) & 1)) >>> 16) & 0xffff;
};
const FORMATS = {
  [F32]: { size: 4, read: (bytes, at) => bytes.readFloatLE(at), write: (bytes, at, x) => bytes.writeFloatLE(x, at) },
  [BF16]: {
    size: 2,
    read: (bytes, at) => fromBf16(bytes.readUInt16LE(at)),
    write: (bytes, at, x) => bytes.writeUInt16LE(toBf16(x), at),
  },
};

const [from, to] = await Promise.all([base, tuned].map((file) => gguf(file, { allowLocalFile: true })));
const [before, result] = [base, tuned].map((file) => fs.readFileSync(file));
const layout = ({ tensorInfos }) => tensorInfos.map(({ name, shape, dtype }) => `${name} ${shape} ${dtype}`).join();
if (layout(from) !== layout(to)) throw new Error(`${base} and ${tuned} have not the same tensors`);
for (const [i, { name, shape, dtype, offset }] of to.tensorInfos.entries()) {
  const format = FORMATS[dtype];
  if (!format) throw new Error(`Expected F32 or BF16 but ${name} is of type ${dtype}`);
  const first = Number(from.tensorDataOffset + from.tensorInfos[i].offset);
  const second = Number(to.tensorDataOffset + offset);
  const count = shape.reduce((product, n) => product * Number(n), 1);
  for (let at = 0; at < count * format.size; at += format.size) {
    const mean = (1 - share) * format.read(before, first + at) + share * format.read(result, second + at);
    format.write(result, second + at, mean);
  }
}
fs.writeFileSync(out, result);
