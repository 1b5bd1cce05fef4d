/** What a running tool can ask and tell. */

/** Facts about the call that a tool runs for, and means to report on it. */
export interface ToolContext {
  /** Aborted when the call should end: it was cancelled, or its time is over. */
  readonly signal: AbortSignal;
  /** Name under which the tool was called. */
  readonly toolName: string;
  /** Id that the model's provider gave the call; may be empty. */
  readonly callId: string;
  /** Number of the attempt, from 1. */
  readonly attempt: number;
  /** Facts about the end user, as the application sent them. */
  readonly context: Readonly<Record<string, string>>;
  /** Key that tells a repeated call from a new one, to pass on; may be empty. */
  readonly idempotencyKey: string;
  /** Trace that the call belongs to (W3C Trace Context); empty without. */
  readonly traceparent: string;
  /** Goes with `traceparent`; empty without. */
  readonly tracestate: string;
  /** The arguments as JSON text: integers above 2^53 are exact in it. */
  readonly argumentsText: string;
  /** Milliseconds until the call must end, not below 0; undefined for no bound. */
  remainingMs(): number | undefined;
  /** Reports progress, in the tool's own unit, to whoever watches. */
  progress(done: number, total?: number, message?: string): void;
  /** Shows part of the output to whoever watches. The result is what the tool returns. */
  output(text: string): void;
}
