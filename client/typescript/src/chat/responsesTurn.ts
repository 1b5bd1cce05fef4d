/** A turn of the Responses API, from its output items. */

import { isObject, numberIn, objectsIn, sendable, shown, textIn } from "./items.js";
import {
  type EndReason,
  type HistoryItem,
  type ModelCall,
  ModelError,
  type ModelTurn,
  type Usage,
} from "./model.js";

const CALLS = ["function_call", "custom_tool_call"];

/** Whether an item is a call of a tool that the application runs. */
export function isCall(item: HistoryItem): boolean {
  return CALLS.includes(textIn(item, "type"));
}

/** Reads a call. */
export function readCall(item: HistoryItem): ModelCall {
  return {
    callId: textIn(item, "call_id"),
    name: textIn(item, "name"),
    arguments: textIn(item, "arguments"),
    supported: item.type === "function_call",
  };
}

/**
 * Reads a turn.
 *
 * @param response - The response; its output may be empty.
 * @param items - The output; becomes the history's.
 * @throws ModelError: The response failed.
 */
export function readTurn(response: unknown, items: HistoryItem[]): ModelTurn {
  const status = textIn(response, "status");
  const fields = isObject(response) ? response : {};
  if (status === "failed" || status === "cancelled") {
    throw new ModelError(`the model's answer ${status}: ${shown(fields.error)}`);
  }
  const text = contentsOf(items, "output_text", "text");
  const refusal = contentsOf(items, "refusal", "refusal");
  const calls = items.filter(isCall).map(readCall);
  let end: EndReason = refusal && calls.length === 0 ? "refusal" : "completed";
  if (status === "incomplete") {
    const reason = textIn(fields.incomplete_details, "reason");
    end = reason === "content_filter" ? "content_filter" : "length";
    // Reasoning that led to nothing is refused in later requests.
    while (items.at(-1)?.type === "reasoning") items.pop();
  }
  for (const item of items) {
    if (item.type === "function_call") item.arguments = textIn(item, "arguments");
  }
  return { text, refusal, calls, end, usage: usageOf(fields.usage), items: sendable(items) };
}

function contentsOf(items: readonly HistoryItem[], kind: string, key: string): string {
  return items
    .filter((item) => item.type === "message")
    .flatMap((item) => objectsIn(item, "content"))
    .filter((part) => part.type === kind)
    .map((part) => textIn(part, key))
    .join("");
}

function usageOf(usage: unknown): Usage {
  return {
    inputTokens: numberIn(usage, "input_tokens"),
    outputTokens: numberIn(usage, "output_tokens"),
  };
}
