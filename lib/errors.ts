/** Stable codes of run-time failures, explained in docs/errors.md. Codes are part of the API, messages are not. */
export type CllmErrorCode =
  | "CLLM_ABORTED"
  | "CLLM_BACKEND_UNAVAILABLE"
  | "CLLM_BINDING_NOT_FOUND"
  | "CLLM_CHAT_TEMPLATE"
  | "CLLM_CONTEXT_OVERFLOW"
  | "CLLM_CONVERT_FAILED"
  | "CLLM_DECODE_FAILED"
  | "CLLM_DISPOSED"
  | "CLLM_INVALID_DATA"
  | "CLLM_INVALID_GRAMMAR"
  | "CLLM_INVALID_MODEL"
  | "CLLM_MODEL_NOT_FOUND"
  | "CLLM_NO_FREE_LANE"
  | "CLLM_NOT_SUPPORTED"
  | "CLLM_OUT_OF_MEMORY"
  | "CLLM_PULL_FAILED"
  | "CLLM_QUANTIZE_FAILED"
  | "CLLM_TRAINING_FAILED"
  | "CLLM_UNSUPPORTED_CPU"
  | "CLLM_UNSUPPORTED_MODEL";

/**
 * A failure at run time: a bad file, too little memory, a disposed decoder. Programmer mistakes (a wrong type, a
 * number out of range) are TypeError and RangeError instead.
 */
export class CllmError extends Error {
  readonly code: CllmErrorCode;

  constructor(code: CllmErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "CllmError";
    this.code = code;
  }
}
