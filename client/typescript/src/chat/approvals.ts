/** Asks humans about the calls of a turn that wait for them. */

import { untilAborted } from "../aborting.js";
import type { Approval } from "../gen/sidecall/v1/execution_pb.js";
import type { ToolResult } from "../results.js";
import type { ApprovalRequested, Emitter } from "./events.js";

/**
 * Asks a human about one call and returns what `approve` or `reject` makes of it; undefined or
 * null leaves the question open. Several calls are asked about at once.
 *
 * What it throws leaves its own call undecided, so that it does not run. Decisions on other
 * calls take effect all the same; then the error ends the chat.
 */
export type ApprovalHook = (
  request: ApprovalRequested,
) => Approval | null | undefined | Promise<Approval | null | undefined>;

/** The questions about some calls of a turn, all asked at the same time. */
export class Questions {
  /** The decisions so far, by index of the call. */
  readonly approvals = new Map<number, Approval>();
  /** What the hook, or who watches, threw. */
  readonly errors: unknown[] = [];
  readonly #hook: ApprovalHook;
  readonly #emitter: Emitter;
  readonly #requests: ApprovalRequested[];

  /**
   * @param hook - Asks.
   * @param turn - Number of the model turn.
   * @param pending - Results of the calls that wait, by index.
   * @param emitter - Is told of questions and decisions.
   */
  constructor(
    hook: ApprovalHook,
    turn: number,
    pending: ReadonlyMap<number, ToolResult>,
    emitter: Emitter,
  ) {
    this.#hook = hook;
    this.#emitter = emitter;
    this.#requests = [...pending].map(([index, result]) => ({
      type: "approval_requested",
      turn,
      index,
      callId: result.callId,
      toolName: result.name,
      arguments: result.approvalArguments,
      approvalId: result.approvalId,
    }));
  }

  /** Asks all of them and waits for the answers. Throws the reason where the signal is aborted. */
  async ask(signal: AbortSignal | undefined): Promise<void> {
    for (const request of this.#requests) await this.#emitter.emit(request);
    await untilAborted(Promise.all(this.#requests.map((request) => this.#one(request))), signal);
  }

  async #one(request: ApprovalRequested): Promise<void> {
    const { turn, index } = request;
    try {
      const decision = (await this.#hook(request)) ?? undefined;
      if (decision) this.approvals.set(index, checked(request, decision));
      await this.#emitter.emit({ type: "approval_decided", turn, index, approval: decision });
    } catch (error) {
      this.errors.push(error);
    }
  }
}

function checked(request: ApprovalRequested, decision: Approval): Approval {
  if ((decision.$typeName as unknown) !== "sidecall.v1.Approval") {
    throw new TypeError("an approve hook returns what approve() or reject() makes, or nothing");
  }
  if (decision.approvalId !== request.approvalId) {
    throw new RangeError("an approve hook decides on the call that it was asked about");
  }
  return decision;
}
