/** The Chat Completions API. */

import { type AttachedPart, attachedMessage, attachedParts } from "../resultFormats.js";
import type { ToolResult } from "../results.js";
import { toChatCompletionsTools } from "../toolFormats.js";
import type { ToolNames } from "../toolNames.js";
import type { Tool } from "../tools.js";
import { ChunkAssembler } from "./chatCompletionsChunks.js";
import { readTurn } from "./chatCompletionsTurn.js";
import { isObject, objectsIn, shown, textIn, toItem } from "./items.js";
import {
  type Assembler,
  type Dialect,
  type HistoryItem,
  type ModelCall,
  ModelError,
  type ModelTurn,
  type Settings,
} from "./model.js";

const INSTRUCTING = ["system", "developer"];

/** Writes and reads conversations of the Chat Completions API. */
export class ChatCompletions implements Dialect {
  request(
    history: readonly HistoryItem[],
    tools: readonly Tool[],
    names: ToolNames,
    settings: Settings,
  ): Record<string, unknown> {
    const request: Record<string, unknown> = {
      ...settings.extra,
      model: settings.model,
      messages: withHint(history, settings.hint),
    };
    const offered = [
      ...toChatCompletionsTools(tools, names),
      ...objectsIn(settings.extra, "tools"),
    ];
    if (offered.length > 0) request.tools = offered;
    if (settings.stream) {
      request.stream = true;
      request.stream_options ??= { include_usage: true };
    }
    return request;
  }

  parse(response: unknown): ModelTurn {
    const choice = objectsIn(response, "choices")[0];
    if (!choice || !isObject(choice.message)) {
      const error = isObject(response) ? response.error : undefined;
      throw new ModelError(`the model's answer holds no choice: ${shown(error)}`);
    }
    const item = toItem(choice.message);
    item.tool_calls = objectsIn(item, "tool_calls");
    const usage = isObject(response) ? response.usage : undefined;
    return readTurn(item, textIn(choice, "finish_reason"), usage);
  }

  assembler(): Assembler {
    return new ChunkAssembler();
  }

  setCallIds(items: readonly HistoryItem[], callIds: readonly string[]): void {
    for (const [place, call] of objectsIn(items[0], "tool_calls").entries()) {
      call.id = callIds[place];
    }
  }

  answer(_call: ModelCall, callId: string, content: string): HistoryItem {
    return { role: "tool", tool_call_id: callId, content };
  }

  setContent(answer: HistoryItem, content: string): void {
    answer.content = content;
  }

  attachedParts(callId: string, results: readonly ToolResult[]): AttachedPart[] {
    return attachedParts(callId, results);
  }

  attachedMessage(parts: readonly AttachedPart[]): HistoryItem {
    return { ...attachedMessage(parts) };
  }

  callIds(history: readonly HistoryItem[]): Set<string> {
    const calls = history.flatMap((message) => objectsIn(message, "tool_calls"));
    return new Set(calls.map((call) => textIn(call, "id")));
  }

  openCalls(history: readonly HistoryItem[]): { place: number; call: ModelCall }[] {
    return history.flatMap((message, index) => {
      const calls = message.role === "assistant" ? objectsIn(message, "tool_calls") : [];
      if (calls.length === 0) return [];
      let end = index + 1;
      while (history[end]?.role === "tool") end += 1;
      const answers = history.slice(index + 1, end);
      const answered = new Set(answers.map((answer) => textIn(answer, "tool_call_id")));
      return calls
        .map((call) => textIn(call, "id"))
        .filter((callId) => !answered.has(callId))
        .map((callId) => ({
          place: end,
          call: { callId, name: "", arguments: "", supported: true },
        }));
    });
  }
}

function withHint(history: readonly HistoryItem[], hint: string): HistoryItem[] {
  const [first, ...rest] = history;
  if (!hint) return [...history];
  // Merged into the first message where that instructs already: many models' templates allow
  // one such message only.
  if (first && INSTRUCTING.includes(textIn(first, "role"))) {
    const content = first.content;
    const merged =
      typeof content === "string"
        ? `${content}\n\n${hint}`
        : [...objectsIn(first, "content"), { type: "text", text: hint }];
    return [{ role: first.role, content: merged }, ...rest];
  }
  return [{ role: "system", content: hint }, ...history];
}
