/** A conversation that is valid at every moment: each call has its answer. */

import type { AttachedPart } from "../resultFormats.js";
import type { ToolResult } from "../results.js";
import type { Dialect, HistoryItem, ModelTurn } from "./model.js";
import { PENDING } from "./text.js";
import type { AnsweredCall, TurnCalls } from "./turnCalls.js";

/**
 * A model's turn in the history, its answers filled in as results arrive.
 *
 * The turn and provisional answers to all of its calls enter the history in one step, so
 * whatever interrupts the turn leaves a history that a provider accepts.
 */
export class TurnRecord {
  readonly results = new Map<number, ToolResult>();
  readonly #history: HistoryItem[];
  readonly #dialect: Dialect;
  readonly #attachments: boolean;
  /** Which answer a result belongs to, by index of the call. */
  readonly #answers = new Map<number, { answered: AnsweredCall; answer: HistoryItem }>();
  /** Indexes of the calls whose answers are still provisional. */
  readonly #open: Set<number>;
  readonly #lastAnswer: HistoryItem | undefined;
  /** What the message after the answers holds, by first index of the call that it belongs to. */
  readonly #attached = new Map<number, AttachedPart[]>();
  #attachedMessage: HistoryItem | undefined;

  /**
   * @param history - The conversation.
   * @param dialect - How its items are written.
   * @param turn - The model's turn.
   * @param calls - The turn's calls.
   * @param attachments - Whether images and files of results enter the history.
   */
  constructor(
    history: HistoryItem[],
    dialect: Dialect,
    turn: ModelTurn,
    calls: TurnCalls,
    attachments: boolean,
  ) {
    this.#history = history;
    this.#dialect = dialect;
    this.#attachments = attachments;
    const ids = calls.answered.map(({ callId }) => callId);
    dialect.setCallIds(turn.items, ids);
    const answers = calls.answered.map((answered) => {
      const content = answered.content(this.results);
      const answer = dialect.answer(answered.call, answered.callId, content ?? PENDING);
      if (content === undefined) {
        for (const index of answered.indexes) this.#answers.set(index, { answered, answer });
      }
      return answer;
    });
    this.#open = new Set(this.#answers.keys());
    this.#lastAnswer = answers.at(-1);
    history.push(...turn.items, ...answers);
  }

  /** Takes in a call's result, in place of an earlier one, and fills in its answer. */
  addResult(index: number, result: ToolResult): void {
    this.results.set(index, result);
    const place = this.#answers.get(index);
    const content = place?.answered.content(this.results);
    if (!place || content === undefined) return;
    const results = place.answered.indexes.flatMap((each) => this.results.get(each) ?? []);
    this.#write(place.answered, place.answer, content, results);
    for (const each of place.answered.indexes) this.#open.delete(each);
  }

  /** Makes answers provisional again: their calls are about to be run. */
  reopen(indexes: Iterable<number>): void {
    for (const index of indexes) {
      const place = this.#answers.get(index);
      if (!place) continue;
      this.#write(place.answered, place.answer, PENDING);
      for (const each of place.answered.indexes) this.#open.add(each);
    }
  }

  /** Answers all calls that have no answer yet with the same content. */
  fail(content: string): void {
    for (const index of this.#open) {
      const place = this.#answers.get(index);
      if (place) this.#write(place.answered, place.answer, content);
    }
    this.#open.clear();
  }

  #write(
    answered: AnsweredCall,
    answer: HistoryItem,
    content: string,
    results: readonly ToolResult[] = [],
  ): void {
    const shown = this.#attachments ? results.filter((result) => result.parts.length > 0) : [];
    this.#dialect.setContent(answer, content, shown);
    const parts = shown.length > 0 ? this.#dialect.attachedParts(answered.callId, shown) : [];
    const first = answered.indexes[0] ?? 0;
    if (parts.length > 0 || this.#attached.has(first)) {
      this.#attached.set(first, parts);
      this.#attach();
    }
  }

  /** Keeps the message that follows the answers up to date, in call order. */
  #attach(): void {
    const groups = [...this.#attached].sort(([a], [b]) => a - b);
    const parts = groups.flatMap(([, group]) => group);
    const written = this.#dialect.attachedMessage(parts);
    if (!this.#attachedMessage) {
      this.#history.splice(placeOf(this.#history, this.#lastAnswer) + 1, 0, written);
      this.#attachedMessage = written;
    } else if (parts.length > 0) {
      Object.assign(this.#attachedMessage, written);
    } else {
      this.#history.splice(placeOf(this.#history, this.#attachedMessage), 1);
      this.#attachedMessage = undefined;
    }
  }
}

/** Answers calls that an earlier interruption left without an answer. */
export function answerOpenCalls(history: HistoryItem[], dialect: Dialect): void {
  for (const { place, call } of dialect.openCalls(history).reverse()) {
    history.splice(place, 0, dialect.answer(call, call.callId, PENDING));
  }
}

/** The place of an item itself; the last one where it is gone. */
function placeOf(history: readonly HistoryItem[], item: HistoryItem | undefined): number {
  const place = item ? history.lastIndexOf(item) : -1;
  return place < 0 ? history.length - 1 : place;
}
