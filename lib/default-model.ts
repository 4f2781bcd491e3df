import path from "node:path";

/**
 * The model that comes with the package: a small one that turns questions about tables in the prompt into SQL.
 * Its card is `models/text-to-sql/README.md`.
 */
export const defaultModel: string = path.join(__dirname, "..", "models", "text-to-sql", "text-to-sql.gguf");
