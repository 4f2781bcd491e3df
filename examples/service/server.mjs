// Starts the service. README.md lists the options.
//   node examples/service/server.mjs MODEL [options]
import { parseArgs } from "node:util";
import { Model, pull } from "node-cllm";
import { createService } from "./service.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "8080" },
    lanes: { type: "string", default: "4" },
    "block-size": { type: "string", default: "4" },
    context: { type: "string", default: "4096" },
    threads: { type: "string" },
    "max-tokens": { type: "string", default: "1024" },
    "max-waiting": { type: "string", default: "64" },
    grace: { type: "string", default: "10" },
  },
});
const source = positionals[0];
if (source === undefined || positionals.length > 1) {
  console.error("Usage: node server.mjs MODEL [--host H] [--port P] [--lanes N] ... (see README.md)");
  process.exit(2);
}

const file = /^(hf|pypi|https?):/.test(source) ? await pull(source) : source;
const model = await Model.load(file);
const decoder = await model.createDecoder({
  lanes: Number(values.lanes),
  blockSize: Number(values["block-size"]),
  contextSize: Number(values.context),
  threads: values.threads === undefined ? undefined : Number(values.threads),
});
const service = createService(decoder, {
  maxBodyBytes: 64 * 1024,
  maxTokens: Number(values["max-tokens"]),
  maxWaiting: Number(values["max-waiting"]),
});

service.server.listen(Number(values.port), values.host, () => {
  const { address, port } = /** @type {import("node:net").AddressInfo} */ (service.server.address());
  const host = address.includes(":") ? `[${address}]` : address;
  console.log(`${model.info.description}: http://${host}:${port} (${decoder.info.lanes} lanes)`);
});

let signals = 0;
for (const name of /** @type {const} */ (["SIGINT", "SIGTERM"])) {
  process.on(name, async () => {
    if (++signals > 1) process.exit(1);
    console.log("Stopping: running requests may end");
    await service.stop(Number(values.grace) * 1000);
    // The context goes before the weights. Then nothing is left that keeps the process alive.
    await decoder.dispose();
    await model.dispose();
    console.log("Stopped");
  });
}
