import { pull } from "../pull/pull.js";
import { EXIT, type Io, interruptible, write } from "./io.js";
import { Progress } from "./progress.js";

export interface PullFlags {
  cacheDir?: string;
  json?: boolean;
  sha256?: string;
}

/** `cllm pull`: the path, and nothing else, on stdout, so that a script can take it. */
export async function pullCommand(source: string, flags: PullFlags, io: Io): Promise<number> {
  const progress = new Progress(io);
  const path = await interruptible(io, async (signal) => {
    try {
      return await pull(source, {
        signal,
        onProgress: (state) => progress.pull(state),
        cacheDir: flags.cacheDir,
        sha256: flags.sha256,
      });
    } finally {
      progress.stop();
    }
  });
  await write(io.stdout, flags.json ? `${JSON.stringify({ source, path })}\n` : `${path}\n`);
  return EXIT.ok;
}
