import { CllmError } from "../errors.js";

/** The checkpoint `where` breaks its format: `reason` is a sentence without its end. */
export function invalid(where: string, reason: string): CllmError {
  return new CllmError("CLLM_INVALID_MODEL", `${where} cannot be converted: ${reason}.`);
}

/** The checkpoint `where` has something that llama.cpp lacks or would read otherwise. */
export function unsupported(where: string, what: string): CllmError {
  return new CllmError("CLLM_UNSUPPORTED_MODEL", `${where} cannot be converted: it has ${what}.`);
}

/** {@link invalid} for the tokenizer of `where`. */
export function invalidTokenizer(where: string, reason: string): CllmError {
  return invalid(`The tokenizer of ${where}`, reason);
}

/** {@link unsupported} for the tokenizer of `where`. */
export function unsupportedTokenizer(where: string, what: string): CllmError {
  return unsupported(`The tokenizer of ${where}`, what);
}
