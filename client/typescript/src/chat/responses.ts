/** The Responses API. */

import { type AttachedPart, responsesOutput } from "../resultFormats.js";
import type { ToolResult } from "../results.js";
import { toResponsesTools } from "../toolFormats.js";
import type { ToolNames } from "../toolNames.js";
import type { Tool } from "../tools.js";
import { objectsIn, textIn, toItem } from "./items.js";
import type { Assembler, Dialect, HistoryItem, ModelCall, ModelTurn, Settings } from "./model.js";
import { EventAssembler } from "./responsesEvents.js";
import { isCall, readCall, readTurn } from "./responsesTurn.js";

const OUTPUTS = ["function_call_output", "custom_tool_call_output"];

/**
 * Writes and reads conversations of the Responses API.
 *
 * The history holds all items of a turn, reasoning included, so that it can be sent whole each
 * time, whether or not the provider stores it.
 */
export class Responses implements Dialect {
  request(
    history: readonly HistoryItem[],
    tools: readonly Tool[],
    names: ToolNames,
    settings: Settings,
  ): Record<string, unknown> {
    const request: Record<string, unknown> = {
      ...settings.extra,
      model: settings.model,
      input: [...history],
    };
    if (settings.hint) {
      const given = textIn(settings.extra, "instructions");
      request.instructions = given ? `${given}\n\n${settings.hint}` : settings.hint;
    }
    const offered = [...toResponsesTools(tools, names), ...objectsIn(settings.extra, "tools")];
    if (offered.length > 0) request.tools = offered;
    if (settings.stream) request.stream = true;
    return request;
  }

  parse(response: unknown): ModelTurn {
    return readTurn(response, objectsIn(response, "output").map(toItem));
  }

  assembler(): Assembler {
    return new EventAssembler();
  }

  setCallIds(items: readonly HistoryItem[], callIds: readonly string[]): void {
    for (const [place, call] of items.filter(isCall).entries()) call.call_id = callIds[place];
  }

  answer(call: ModelCall, callId: string, content: string): HistoryItem {
    return { type: OUTPUTS[call.supported ? 0 : 1], call_id: callId, output: content };
  }

  setContent(answer: HistoryItem, content: string, results: readonly ToolResult[]): void {
    answer.output = responsesOutput(content, results);
  }

  /** Nothing: the output holds all that can be sent. */
  attachedParts(): AttachedPart[] {
    return [];
  }

  attachedMessage(parts: readonly AttachedPart[]): HistoryItem {
    return { role: "user", content: [...parts] };
  }

  callIds(history: readonly HistoryItem[]): Set<string> {
    return new Set(history.filter(isCall).map((item) => textIn(item, "call_id")));
  }

  openCalls(history: readonly HistoryItem[]): { place: number; call: ModelCall }[] {
    const answers = history.filter((item) => OUTPUTS.includes(textIn(item, "type")));
    const answered = new Set(answers.map((item) => textIn(item, "call_id")));
    return history.flatMap((item, index) =>
      isCall(item) && !answered.has(textIn(item, "call_id"))
        ? [{ place: index + 1, call: readCall(item) }]
        : [],
    );
  }
}
