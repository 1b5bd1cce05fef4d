/** A turn of the Chat Completions API, from its message. */

import { isObject, numberIn, objectsIn, sendable, textIn } from "./items.js";
import type { EndReason, HistoryItem, ModelCall, ModelTurn, Usage } from "./model.js";

const OUTPUT_ONLY = ["annotations", "function_call"];

/** Finish reasons that say more than that the turn is over. */
export const CUT_OFF: Readonly<Record<string, EndReason>> = {
  length: "length",
  content_filter: "content_filter",
};

/**
 * Reads a turn.
 *
 * @param item - The message, with a list of `tool_calls`; becomes the history's.
 * @param finishReason - As the API names it.
 * @param usage - As the API sends it.
 */
export function readTurn(item: HistoryItem, finishReason: string, usage: unknown): ModelTurn {
  const { audio } = item;
  const text = textIn(item, "content");
  const refusal = textIn(item, "refusal");
  const calls = objectsIn(item, "tool_calls").map(readCall);
  const kept = Object.fromEntries(
    Object.entries(item).filter(([key]) => !OUTPUT_ONLY.includes(key)),
  );
  if (isObject(audio)) kept.audio = { id: audio.id };
  if (calls.length === 0) delete kept.tool_calls;
  // An answer without calls must have content; beside calls some providers refuse "".
  kept.content = text || (calls.length > 0 || refusal ? null : "");
  const end = CUT_OFF[finishReason] ?? (refusal && calls.length === 0 ? "refusal" : "completed");
  return { text, refusal, calls, end, usage: usageOf(usage), items: [sendable(kept)] };
}

/** Reads how many tokens a turn took. */
export function usageOf(usage: unknown): Usage {
  return {
    inputTokens: numberIn(usage, "prompt_tokens"),
    outputTokens: numberIn(usage, "completion_tokens"),
  };
}

function readCall(call: Record<string, unknown>): ModelCall {
  const callId = textIn(call, "id");
  const made = call.function;
  if (!isObject(made)) return { callId, name: "", arguments: "", supported: false };
  made.arguments = textIn(made, "arguments");
  return {
    callId,
    name: textIn(made, "name"),
    arguments: textIn(made, "arguments"),
    supported: true,
  };
}
