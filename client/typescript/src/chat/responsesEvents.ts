/** Streamed answers of the Responses API. */

import { CallSlot, CallSlots } from "./assembly.js";
import { isObject, numberIn, objectsIn, shown, textIn, toItem } from "./items.js";
import {
  type Assembler,
  type HistoryItem,
  ModelError,
  type ModelTurn,
  type StreamPart,
} from "./model.js";
import { isCall, readTurn } from "./responsesTurn.js";

/** Puts the events of one streamed answer together. */
export class EventAssembler implements Assembler {
  readonly #calls = new CallSlots();
  readonly #byOutput = new Map<number, CallSlot>();
  readonly #doneItems = new Map<number, HistoryItem>();
  #response: unknown;

  feed(chunk: unknown): StreamPart[] {
    const parts: StreamPart[] = [];
    const event = isObject(chunk) ? chunk : {};
    const outputIndex = numberIn(event, "output_index");
    const item = isObject(event.item) ? event.item : {};
    switch (event.type) {
      case "response.output_text.delta":
        parts.push({ type: "text", text: textIn(event, "delta") });
        break;
      case "response.refusal.delta":
        parts.push({ type: "refusal", text: textIn(event, "delta") });
        break;
      case "response.output_item.added":
        this.#begin(outputIndex, item);
        break;
      case "response.function_call_arguments.delta":
        this.#slot(outputIndex).arguments += textIn(event, "delta");
        break;
      case "response.function_call_arguments.done":
        this.#finish(outputIndex, textIn(event, "arguments"));
        break;
      case "response.output_item.done":
        this.#finishItem(outputIndex, item);
        break;
      case "error":
        throw new ModelError(`the model's stream reports an error: ${shown(event)}`);
      case "response.completed":
      case "response.incomplete":
      case "response.failed":
        this.#response = event.response;
        break;
    }
    return [...parts, ...this.#calls.report()];
  }

  finish(): ModelTurn {
    if (!isObject(this.#response))
      throw new ModelError("the model's stream broke off before its end");
    // Some servers leave the output out of the last event.
    const whole = objectsIn(this.#response, "output").map(toItem);
    const streamed = [...this.#doneItems].sort(([a], [b]) => a - b).map(([, item]) => item);
    return readTurn(this.#response, whole.length > 0 ? whole : streamed);
  }

  #begin(outputIndex: number, item: HistoryItem): void {
    if (!isCall(item)) return;
    const supported = item.type === "function_call";
    const slot = new CallSlot(textIn(item, "call_id"), textIn(item, "name"), supported);
    this.#byOutput.set(outputIndex, slot);
    this.#calls.add(slot);
  }

  #slot(outputIndex: number): CallSlot {
    const slot = this.#byOutput.get(outputIndex);
    if (!slot) throw new ModelError(`the model's stream never began its output ${outputIndex}`);
    return slot;
  }

  #finish(outputIndex: number, given: string): void {
    const slot = this.#slot(outputIndex);
    slot.arguments = given;
    slot.done = true;
  }

  #finishItem(outputIndex: number, item: HistoryItem): void {
    this.#doneItems.set(outputIndex, toItem(item));
    if (!isCall(item) || item.status === "incomplete") return;
    if (!this.#byOutput.has(outputIndex)) this.#begin(outputIndex, item);
    this.#finish(outputIndex, textIn(item, "arguments"));
  }
}
