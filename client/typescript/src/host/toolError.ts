/** What a function throws to tell the model something. */

import { codeNumber, type StatusCode } from "../statusDetails.js";

/**
 * Thrown by a tool to tell the model what went wrong. Its text reaches the model; that of any
 * other error stays in the process.
 */
export class ToolError extends Error {
  override readonly name = "ToolError";
  /** Status code. */
  readonly code: Exclude<StatusCode, "OK">;
  /** Milliseconds after which the call may be made again, where that is known. */
  readonly retryAfterMs: number | undefined;

  /**
   * @param message - For the model: what went wrong and what it can do about it.
   * @param options - `code`: a status code, by default UNKNOWN.
   * @throws RangeError: There is no such code, or `retryAfterMs` is not finite and from 0.
   */
  constructor(
    message: string,
    options: {
      code?: Exclude<StatusCode, "OK"> | undefined;
      retryAfterMs?: number | undefined;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause: options.cause });
    this.code = options.code ?? "UNKNOWN";
    this.retryAfterMs = options.retryAfterMs;
    if (codeNumber(this.code) < 1) throw new RangeError(`${this.code} is not a status code`);
    const { retryAfterMs = 0 } = this;
    if (!Number.isFinite(retryAfterMs) || retryAfterMs < 0) {
      throw new RangeError(`retryAfterMs must be finite and from 0, not ${retryAfterMs}`);
    }
  }
}

/** A function returned something that cannot be written as text or JSON. */
export class ResultError extends Error {
  override readonly name = "ResultError";
}
