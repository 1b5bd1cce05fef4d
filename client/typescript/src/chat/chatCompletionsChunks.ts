/** Streamed answers of the Chat Completions API. */

import { CallSlot, CallSlots, mergeExtra } from "./assembly.js";
import { CUT_OFF, readTurn } from "./chatCompletionsTurn.js";
import { isObject, numberIn, objectsIn, textIn } from "./items.js";
import {
  type Assembler,
  type HistoryItem,
  ModelError,
  type ModelTurn,
  type StreamPart,
} from "./model.js";

const DELTA_FIELDS = new Set(["content", "function_call", "refusal", "role", "tool_calls"]);
const CALL_FIELDS = new Set(["function", "id", "index", "type"]);

/** Puts the chunks of one streamed answer together. */
export class ChunkAssembler implements Assembler {
  #text = "";
  #refusal = "";
  readonly #extra: HistoryItem = {};
  readonly #calls = new CallSlots();
  readonly #byIndex = new Map<unknown, CallSlot>();
  #finishReason = "";
  #usage: unknown;

  feed(chunk: unknown): StreamPart[] {
    if (isObject(chunk) && isObject(chunk.usage)) this.#usage = chunk.usage;
    const parts: StreamPart[] = [];
    // Other choices than the first are nobody's turn.
    for (const choice of objectsIn(chunk, "choices").filter((each) => !numberIn(each, "index"))) {
      if (isObject(choice.delta)) parts.push(...this.#feedDelta(choice.delta));
      const finishReason = textIn(choice, "finish_reason");
      if (!finishReason) continue;
      this.#finishReason = finishReason;
      if (!Object.hasOwn(CUT_OFF, finishReason)) this.#calls.finishAll();
    }
    return [...parts, ...this.#calls.report()];
  }

  finish(): ModelTurn {
    if (!this.#finishReason) throw new ModelError("the model's stream broke off before its end");
    const item: HistoryItem = { role: "assistant", content: this.#text, ...this.#extra };
    if (this.#refusal) item.refusal = this.#refusal;
    item.tool_calls = this.#calls.slots.map((slot) => ({
      id: slot.callId,
      type: "function",
      function: { name: slot.name, arguments: slot.arguments },
      ...slot.extra,
    }));
    return readTurn(item, this.#finishReason, this.#usage);
  }

  #feedDelta(delta: Record<string, unknown>): StreamPart[] {
    const parts: StreamPart[] = [];
    const text = textIn(delta, "content");
    const refusal = textIn(delta, "refusal");
    if (text) parts.push({ type: "text", text });
    if (refusal) parts.push({ type: "refusal", text: refusal });
    this.#text += text;
    this.#refusal += refusal;
    mergeExtra(this.#extra, without(delta, DELTA_FIELDS));
    for (const call of objectsIn(delta, "tool_calls")) this.#feedCall(call);
    return parts;
  }

  #feedCall(delta: Record<string, unknown>): void {
    const callId = textIn(delta, "id");
    const index = delta.index;
    let slot = this.#byIndex.get(index);
    // Some providers give every call of a turn the same index; a new id tells them apart.
    if (!slot || (callId && slot.callId && callId !== slot.callId)) {
      this.#calls.finishAll();
      slot = new CallSlot();
      this.#byIndex.set(index, slot);
      this.#calls.add(slot);
    }
    slot.callId ||= callId;
    slot.name ||= textIn(delta.function, "name");
    slot.arguments += textIn(delta.function, "arguments");
    mergeExtra(slot.extra, without(delta, CALL_FIELDS));
  }
}

function without(item: HistoryItem, fields: ReadonlySet<string>): HistoryItem {
  return Object.fromEntries(Object.entries(item).filter(([key]) => !fields.has(key)));
}
