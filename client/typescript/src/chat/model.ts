/** A model's turn, whichever API it came from. */

import type { AttachedPart } from "../resultFormats.js";
import type { ToolResult } from "../results.js";
import type { ToolNames } from "../toolNames.js";
import type { Tool } from "../tools.js";

/** An entry of a conversation as its API takes it. */
export type HistoryItem = Record<string, unknown>;

/** Why a model ended its turn. "completed" covers turns that end in tool calls. */
export type EndReason = "completed" | "length" | "content_filter" | "refusal";

/** The model's answer broke off, reports an error or cannot be read. Nothing of it was kept. */
export class ModelError extends Error {
  override readonly name = "ModelError";
}

/** Tokens. */
export interface Usage {
  /** Tokens read by the model. */
  readonly inputTokens: number;
  /** Tokens written by the model. */
  readonly outputTokens: number;
}

export const NO_USAGE: Usage = { inputTokens: 0, outputTokens: 0 };

export function sumOf(usages: readonly Usage[]): Usage {
  return usages.reduce(
    (sum, usage) => ({
      inputTokens: sum.inputTokens + usage.inputTokens,
      outputTokens: sum.outputTokens + usage.outputTokens,
    }),
    NO_USAGE,
  );
}

/** A call as the model made it. */
export interface ModelCall {
  /** Id that the provider gave it; may be empty or repeated. */
  readonly callId: string;
  /** Name that the model wrote. */
  readonly name: string;
  /** Arguments that the model wrote. */
  readonly arguments: string;
  /** Whether it is a call of a function; other kinds cannot be run here. */
  readonly supported: boolean;
}

/** What a model produced in one turn. */
export interface ModelTurn {
  readonly text: string;
  /** Its refusal; empty where it did not refuse. */
  readonly refusal: string;
  /** Its calls, in the order in which it made them. */
  readonly calls: readonly ModelCall[];
  readonly end: EndReason;
  readonly usage: Usage;
  /** What enters the history, without answers to the calls. */
  readonly items: HistoryItem[];
}

/** What a streamed turn brings. */
export type StreamPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "refusal"; readonly text: string }
  /** The model has finished a call, although its turn goes on. */
  | { readonly type: "call_done"; readonly call: ModelCall }
  /** More of a call arrived after it had been reported as done. */
  | { readonly type: "call_reopened" };

/** What each request to the model says. */
export interface Settings {
  readonly model: string;
  readonly stream: boolean;
  /** Instructions that are sent but not kept in the history; may be empty. */
  readonly hint: string;
  /** Further arguments of the API's `create`. */
  readonly extra: Readonly<Record<string, unknown>>;
}

/** Puts a streamed turn together. */
export interface Assembler {
  /**
   * Takes a chunk in and returns what it brought.
   *
   * @throws ModelError: The chunk reports an error.
   */
  feed(chunk: unknown): StreamPart[];
  /**
   * Returns the whole turn after the last chunk.
   *
   * @throws ModelError: The stream broke off.
   */
  finish(): ModelTurn;
}

/** How one of the provider's APIs writes conversations. Pure: no I/O. */
export interface Dialect {
  /** Returns the arguments of the API's `create`. */
  request(
    history: readonly HistoryItem[],
    tools: readonly Tool[],
    names: ToolNames,
    settings: Settings,
  ): Record<string, unknown>;
  /**
   * Reads a response that was not streamed.
   *
   * @throws ModelError: It reports an error.
   */
  parse(response: unknown): ModelTurn;
  /** Returns what puts one streamed response together. */
  assembler(): Assembler;
  /** Gives the calls in a turn's history items these ids, in order. */
  setCallIds(items: readonly HistoryItem[], callIds: readonly string[]): void;
  /** Returns the history item that answers a call. */
  answer(call: ModelCall, callId: string, content: string): HistoryItem;
  /** Replaces the content of an answer, with images and files of results where it can. */
  setContent(answer: HistoryItem, content: string, results: readonly ToolResult[]): void;
  /** Returns the images and files of a call's results that its answer cannot hold. */
  attachedParts(callId: string, results: readonly ToolResult[]): AttachedPart[];
  /** Returns the message that holds them; it follows all answers of the turn. */
  attachedMessage(parts: readonly AttachedPart[]): HistoryItem;
  /** Returns the ids of all calls. */
  callIds(history: readonly HistoryItem[]): Set<string>;
  /** Finds calls without an answer, each with the place to insert one at. */
  openCalls(history: readonly HistoryItem[]): { place: number; call: ModelCall }[];
}
