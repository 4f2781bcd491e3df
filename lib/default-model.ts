import path from "node:path";
import { packageFolder, unpackedPath } from "./binary/package-folder.js";

/**
 * The model that comes with the package: a small one that turns questions about tables in the prompt into SQL.
 * Its card is `models/text-to-sql/README.md`.
 */
export const defaultModel: string = unpackedPath(path.join(packageFolder, "models", "text-to-sql", "text-to-sql.gguf"));
