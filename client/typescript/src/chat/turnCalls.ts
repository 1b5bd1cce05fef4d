/** The calls of one model turn: ids, names, and calls wrapped in another. */

import type { ToolResult } from "../results.js";
import { escapeSurrogates } from "../texts.js";
import type { ToolNames } from "../toolNames.js";
import type { ModelCall } from "./model.js";
import { NOT_SUPPORTED, notOffered } from "./text.js";
import { isWrapper, toolUses } from "./wrapped.js";

const ID_STEM = 32; // OpenAI refuses ids over 40 characters

/** A call as the sidecar is given it; one that the chat refuses to run has no name. */
export interface BatchCall {
  readonly id: string;
  readonly name: string;
  /** JSON text. */
  readonly arguments: string;
}

/** A call that is not run: the name of the tool that the model meant, and what it is told. */
export interface RefusedCall {
  readonly name: string;
  readonly why: string;
}

/** A call of the model and the calls of the batch that stand for it. */
export class AnsweredCall {
  /**
   * @param call - The call as the model made it.
   * @param callId - Its id in the history: never empty and unique.
   * @param indexes - Its calls in the batch; one unless it wraps others.
   * @param wraps - Whether it wraps others; then its answer is a JSON list.
   * @param refused - The calls of the batch that are not run, by index.
   */
  constructor(
    readonly call: ModelCall,
    readonly callId: string,
    readonly indexes: readonly number[],
    private readonly wraps: boolean,
    private readonly refused: ReadonlyMap<number, RefusedCall>,
  ) {}

  /** Returns the answer; undefined while a result is missing. */
  content(results: ReadonlyMap<number, ToolResult>): string | undefined {
    const contents: [name: string, content: string][] = [];
    for (const index of this.indexes) {
      const refused = this.refused.get(index);
      const result = results.get(index);
      if (refused) contents.push([refused.name, refused.why]);
      else if (result) contents.push([result.name, result.content]);
      else return undefined;
    }
    if (!this.wraps) return contents[0]?.[1];
    const entries = contents.map(
      ([name, content]) =>
        `{"recipient_name": ${JSON.stringify(name)}, "content": ${JSON.stringify(content)}}`,
    );
    return `[${entries.join(", ")}]`;
  }
}

/**
 * Collects the calls of one turn as the model finishes them.
 *
 * The batch has one call for each that the model made, in the model's order, so that "@N" in a
 * reference is the Nth call as the model counts them. A `multi_tool_use.parallel` counts as the
 * calls that it wraps, in its place; one that cannot be read counts as one call. A call that is
 * refused here keeps its place: the sidecar is given a call of no tool instead, which fails
 * there as TOOL_NOT_FOUND.
 */
export class TurnCalls {
  readonly answered: AnsweredCall[] = [];
  readonly batch: BatchCall[] = [];
  readonly #names: ToolNames;
  readonly #mintId: (place: number) => string;
  readonly #taken: Set<string>;
  readonly #offeredOnly: boolean;
  readonly #refused = new Map<number, RefusedCall>();

  /**
   * @param names - Maps the names that the model uses.
   * @param mintId - Makes the id of a call that has none, from the call's place in its turn.
   * @param taken - Ids of earlier calls; a call that repeats one gets another in the history.
   * @param offeredOnly - Whether calls of other tools than those in `names` are not run.
   */
  constructor(
    names: ToolNames,
    mintId: (place: number) => string,
    taken: Iterable<string>,
    offeredOnly: boolean,
  ) {
    this.#names = names;
    this.#mintId = mintId;
    this.#taken = new Set(taken);
    this.#offeredOnly = offeredOnly;
  }

  /** Takes a call in and returns what it adds to the batch. */
  add(call: ModelCall): BatchCall[] {
    const callId = this.#uniqueId(call);
    const first = this.batch.length;
    const wraps = isWrapper(call.name) && !this.#names.has(this.#names.toTool(call.name));
    const uses = wraps ? toolUses(call.arguments) : undefined;
    if (uses) {
      for (const [place, use] of uses.entries()) {
        this.#append(use.name, use.arguments, `${callId}_${place + 1}`, use.refusal);
      }
    } else {
      // A repeated id goes to the sidecar as it is, where a reference to it is an error; under
      // another id the reference would silently mean the wrong call.
      const refusal = call.supported ? "" : NOT_SUPPORTED;
      this.#append(call.name, call.arguments, call.callId || callId, refusal);
    }
    const added = this.batch.slice(first);
    const indexes = added.map((_, place) => first + place);
    this.answered.push(new AnsweredCall(call, callId, indexes, uses !== undefined, this.#refused));
    return added;
  }

  /** Returns what a call came to: the sidecar's result, or why it was refused here. */
  settle(index: number, result: ToolResult): ToolResult {
    const refused = this.#refused.get(index);
    if (!refused) return result;
    return { ...result, name: refused.name, content: refused.why, message: refused.why };
  }

  #append(name: string, given: string, callId: string, refused: string): void {
    const tool = this.#names.toTool(name);
    const notThere = this.#offeredOnly && !this.#names.has(tool);
    const why = refused || (notThere ? notOffered(tool, this.#names.providerNames) : "");
    if (why) this.#refused.set(this.batch.length, { name: escapeSurrogates(tool), why });
    this.batch.push({
      id: escapeSurrogates(callId),
      name: why ? "" : escapeSurrogates(tool),
      arguments: why ? "" : escapeSurrogates(given),
    });
  }

  #uniqueId(call: ModelCall): string {
    const callId = call.callId || this.#mintId(this.answered.length);
    const stem = Array.from(callId).slice(0, ID_STEM).join("");
    let candidate = callId;
    for (let repeat = 2; this.#taken.has(candidate); repeat += 1) candidate = `${stem}_${repeat}`;
    this.#taken.add(candidate);
    return candidate;
  }
}

/** Whether two calls are the same. */
export function isSameCall(a: BatchCall | undefined, b: BatchCall | undefined): boolean {
  return a?.id === b?.id && a?.name === b?.name && a?.arguments === b?.arguments;
}
