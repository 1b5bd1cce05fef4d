/** Runs the calls of one turn: once, or again after decisions and lost connections. */

import { randomUUID } from "node:crypto";
import { isPending } from "../approvals.js";
import { isTransient, SidecallError } from "../errors.js";
import type { Approval } from "../gen/sidecall/v1/execution_pb.js";
import type { ExecuteOptions } from "../requests.js";
import type { BatchResults, ToolResult } from "../results.js";
import { Questions } from "./approvals.js";
import type { EarlyCalls } from "./early.js";
import type { Emitter } from "./events.js";
import type { TurnRecord } from "./history.js";
import type { Choices } from "./options.js";
import { APPROVAL_LOST } from "./text.js";
import type { BatchCall, TurnCalls } from "./turnCalls.js";

/** What the execution of a turn needs. */
export interface ExecutionOptions {
  /** Number of the model turn. */
  turn: number;
  calls: TurnCalls;
  /** Takes the results. */
  record: TurnRecord;
  choices: Choices;
  /** Runs a batch. */
  execute: (calls: readonly BatchCall[], options: ExecuteOptions) => Promise<BatchResults>;
  /** Is told of the final result of each call, once. */
  emitter: Emitter;
  signal: AbortSignal | undefined;
}

/** Makes a request id. */
export function newRequestId(): string {
  return randomUUID();
}

/** Runs the calls of one turn and fills the turn's record with their results. */
export class TurnExecution {
  readonly #options: ExecutionOptions;
  #told = new Set<number>();
  #requestId = "";

  constructor(options: ExecutionOptions) {
    this.#options = options;
  }

  /**
   * Runs the calls to their ends.
   *
   * @param early - Their early start; undefined where there was none.
   * @throws SidecallError: An RPC failed.
   * @throws What the approve hook threw, once all other decisions are done.
   */
  async run(early: EarlyCalls | undefined): Promise<void> {
    const { choices, record } = this.#options;
    if (!early || !(await this.#complete(early))) {
      await this.#send(choices.resend ? { requestId: newRequestId() } : {});
    }
    const errors = await this.#decide();
    await this.#tell([...record.results.keys()]);
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) {
      throw new AggregateError(errors, "the approve hook failed for several calls");
    }
  }

  /** Ends an early start; returns whether all calls have their results. */
  async #complete(early: EarlyCalls): Promise<boolean> {
    const { calls, record, choices } = this.#options;
    const begin = performance.now();
    try {
      if (!(await early.complete(calls, record))) return false;
    } catch (error) {
      // Nothing of an unsealed turn has taken effect: it is sent as a new batch. This one may
      // have, so it is sent again only where the sidecar can tell.
      const { requestId, sentToInstance } = early;
      if (!(error instanceof SidecallError && sentToInstance && isTransient(error))) throw error;
      const { batchTimeoutMs } = choices;
      const timeoutMs = batchTimeoutMs && batchTimeoutMs - (performance.now() - begin);
      if (timeoutMs !== undefined && timeoutMs <= 0) throw error;
      this.#told = early.told;
      await this.#send({
        requestId,
        sentToInstance,
        ...(timeoutMs !== undefined && { timeoutMs }),
      });
      return true;
    }
    this.#told = early.told;
    this.#requestId = early.requestId;
    return true;
  }

  async #send(options: ExecuteOptions): Promise<void> {
    const { calls, choices, execute } = this.#options;
    const answered = await execute(calls.batch, { timeoutMs: choices.batchTimeoutMs, ...options });
    this.#requestId = answered.requestId;
    this.#adopt(answered);
  }

  #adopt(answered: BatchResults): void {
    const { calls, record } = this.#options;
    for (const [index, result] of answered.results.entries()) {
      const known = record.results.get(index);
      if (known && known.executionState !== "NOT_STARTED") {
        if (result.reason === "OUTCOME_UNKNOWN") continue; // The first send said more about it.
        if (known.executionState !== result.executionState) this.#told.delete(index);
      }
      record.addResult(index, calls.settle(index, result));
    }
  }

  /** Has humans decide for as long as calls wait for them; returns what the hook threw. */
  async #decide(): Promise<unknown[]> {
    const { calls, choices, emitter, record, signal, turn } = this.#options;
    const asked = new Set<string>();
    // Each round decides on a call for good, so there are no more rounds than calls.
    for (const _ of calls.batch) {
      const waiting = [...record.results]
        .filter(([, result]) => isPending(result) && !asked.has(result.approvalId))
        .sort(([a], [b]) => a - b);
      if (!choices.approve || waiting.length === 0 || !this.#requestId) break;
      await this.#tell(this.#started());
      for (const [, result] of waiting) asked.add(result.approvalId);
      const questions = new Questions(choices.approve, turn, new Map(waiting), emitter);
      await questions.ask(signal);
      if (questions.approvals.size > 0) await this.#sendDecisions(questions.approvals);
      if (questions.errors.length > 0 || questions.approvals.size === 0) return questions.errors;
    }
    return [];
  }

  async #sendDecisions(approvals: ReadonlyMap<number, Approval>): Promise<void> {
    const { record } = this.#options;
    const released = [...record.results].filter(
      ([index, result]) =>
        result.executionState === "NOT_STARTED" && (approvals.has(index) || !isPending(result)),
    );
    record.reopen(released.map(([index]) => index));
    try {
      await this.#send({ requestId: this.#requestId, approvals: [...approvals.values()] });
    } catch (error) {
      const lost = error instanceof SidecallError && error.reason === "APPROVAL_UNKNOWN";
      if (!lost || !error.notStarted) throw error;
      for (const [index, result] of released) {
        record.addResult(index, approvals.has(index) ? decidedTooLate(result) : result);
      }
    }
  }

  /** Calls whose results will not change any more. */
  #started(): number[] {
    const results = [...this.#options.record.results];
    return results
      .filter(([, result]) => result.executionState !== "NOT_STARTED")
      .map(([index]) => index);
  }

  async #tell(indexes: readonly number[]): Promise<void> {
    const { emitter, record, turn } = this.#options;
    for (const index of indexes.filter((each) => !this.#told.has(each)).sort((a, b) => a - b)) {
      this.#told.add(index);
      const result = record.results.get(index);
      if (result) await emitter.emit({ type: "call_finished", turn, index, result });
    }
  }
}

function decidedTooLate(pending: ToolResult): ToolResult {
  const told = { content: APPROVAL_LOST, message: APPROVAL_LOST };
  return { ...pending, ...told, approvalId: "", approvalArguments: "" };
}
