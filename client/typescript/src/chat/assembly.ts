/** Calls of a streamed turn, as they grow. */

import { isObject } from "./items.js";
import type { HistoryItem, ModelCall, StreamPart } from "./model.js";

/** A call that the model is writing. */
export class CallSlot {
  arguments = "";
  readonly extra: HistoryItem = {};
  done = false;
  reported: ModelCall | undefined;
  callId: string;
  name: string;
  readonly #supported: boolean;

  constructor(callId = "", name = "", supported = true) {
    this.callId = callId;
    this.name = name;
    this.#supported = supported;
  }

  /** The call as it stands. */
  get call(): ModelCall {
    const { callId, name } = this;
    return { callId, name, arguments: this.arguments, supported: this.#supported };
  }
}

/**
 * The calls of one turn, in the order in which the model began them.
 *
 * A call is reported once it and all before it are done, so that calls are reported in the
 * order that they have in the turn.
 */
export class CallSlots {
  readonly slots: CallSlot[] = [];
  #reopened = false;

  /** Begins a call. */
  add(slot: CallSlot): void {
    this.slots.push(slot);
  }

  /** Marks all calls so far as done. */
  finishAll(): void {
    for (const slot of this.slots) slot.done = true;
  }

  /** Returns what is new. After a call was reopened, nothing is reported any more. */
  report(): StreamPart[] {
    const parts: StreamPart[] = [];
    if (this.#reopened) return parts;
    for (const slot of this.slots) {
      if (slot.reported) {
        if (!isSame(slot.reported, slot)) {
          this.#reopened = true;
          return [...parts, { type: "call_reopened" }];
        }
      } else if (slot.done) {
        slot.reported = slot.call;
        parts.push({ type: "call_done", call: slot.reported });
      } else {
        break;
      }
    }
    return parts;
  }
}

/** Adds a provider's own fields of a delta: texts grow, other values are replaced. */
export function mergeExtra(target: HistoryItem, extra: HistoryItem): void {
  for (const [key, value] of Object.entries(extra)) {
    const present = target[key];
    if (typeof value === "string" && typeof present === "string") target[key] = present + value;
    else if (isObject(value) && isObject(present)) mergeExtra(present, value);
    else if (value !== null && value !== undefined) target[key] = structuredClone(value);
  }
}

function isSame(reported: ModelCall, slot: CallSlot): boolean {
  return (
    reported.callId === slot.callId &&
    reported.name === slot.name &&
    reported.arguments === slot.arguments
  );
}
