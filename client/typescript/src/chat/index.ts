/**
 * The chat loop: a model's tool calls, run in a sidecar, until the model answers.
 *
 * Needs the package `openai`.
 */

export type { ApprovalHook } from "./approvals.js";
export type {
  ApprovalRequested,
  CallFinished,
  ChatEvent,
  EventHook,
  OfCall,
  OfTurn,
} from "./events.js";
export { REFERENCE_HINT, SESSION_REFERENCE_HINT } from "./hint.js";
export { ChatLoop } from "./loop.js";
export { ModelError } from "./model.js";
export type { EndReason, Usage } from "./model.js";
export type {
  Api,
  ChatBatchOptions,
  ChatOptions,
  ChatResult,
  Message,
  RunOptions,
  StoppedReason,
  Turn,
} from "./options.js";
export type { ChatRun } from "./run.js";
export type { BatchCall } from "./turnCalls.js";
