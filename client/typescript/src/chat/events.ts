/** What happens in a chat, for whoever watches. */

import { untilAborted } from "../aborting.js";
import type { BlockCause } from "../enums.js";
import type { Approval } from "../gen/sidecall/v1/execution_pb.js";
import type { ToolResult } from "../results.js";
import type { Usage } from "./model.js";
import type { BatchCall } from "./turnCalls.js";

/** Members of all events. */
export interface OfTurn {
  /** Number of the model turn, counted from 1. */
  readonly turn: number;
}

/** Members of events of one call. */
export interface OfCall extends OfTurn {
  /** Position of the call among those of its turn, counted from 0. */
  readonly index: number;
}

/** A call waits for a human, and the chat's `approve` hook is asked next. */
export interface ApprovalRequested extends OfCall {
  readonly type: "approval_requested";
  /** Id of the call. */
  readonly callId: string;
  /** Name of the tool, as the sidecar knows it. */
  readonly toolName: string;
  /** JSON text of what the call would run with: references resolved, defaults applied. */
  readonly arguments: string;
  /** Id under which the decision is made. */
  readonly approvalId: string;
}

/** A call has its result. */
export interface CallFinished extends OfCall {
  readonly type: "call_finished";
  readonly result: ToolResult;
}

/**
 * Something that happened in a chat.
 *
 * `call_queued`, `call_started`, `call_progress` and `call_partial_output` are reported with
 * early start only. Where the chat has an `approve` hook, calls that were not started are
 * reported as finished after the decisions, which may start them. A call whose end was unknown
 * is reported again where the turn was sent again and told it.
 */
export type ChatEvent =
  /** The model is about to be asked. */
  | (OfTurn & { readonly type: "turn_started" })
  /** The model wrote text, or of a refusal; without streaming, all of it at once. */
  | (OfTurn & { readonly type: "text_delta" | "refusal_delta"; readonly text: string })
  /** The model has finished a call. */
  | (OfCall & { readonly type: "call_ready"; readonly call: BatchCall })
  /** A call waits, and for what; `waitingFor` are indexes of calls that it depends on. */
  | (OfCall & {
      readonly type: "call_queued";
      readonly cause: BlockCause;
      readonly waitingFor: readonly number[];
    })
  /** An attempt of a call was started; attempts count from 1. */
  | (OfCall & { readonly type: "call_started"; readonly attempt: number })
  /** A running tool reported progress, in its own unit. */
  | (OfCall & {
      readonly type: "call_progress";
      readonly progress: number;
      readonly total: number | undefined;
      readonly message: string;
    })
  /** A running tool produced part of its output. */
  | (OfCall & { readonly type: "call_partial_output"; readonly text: string })
  | CallFinished
  | ApprovalRequested
  /** A human was asked; undefined: the question was left open. */
  | (OfCall & { readonly type: "approval_decided"; readonly approval: Approval | undefined })
  /** Calls that were sent early are void; the turn is sent again as one batch. */
  | (OfTurn & { readonly type: "early_start_abandoned"; readonly reason: string })
  /** The model's turn is over and each of its calls is answered. */
  | (OfTurn & {
      readonly type: "turn_finished";
      readonly text: string;
      readonly callCount: number;
      readonly usage: Usage;
    })
  /** The chat ends with an error, which `run` throws next. */
  | (OfTurn & { readonly type: "error_occurred"; readonly error: unknown });

/** Is told of each event, one at a time. What it throws ends the chat. */
export type EventHook = (event: ChatEvent) => void | Promise<void>;

/** Tells a hook of events, one at a time. */
export class Emitter {
  readonly #hook: EventHook | undefined;
  readonly #signal: AbortSignal | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #telling = 0;
  #thrown: unknown;

  /** @param signal - Nothing is told, and nobody waited for, once it is aborted. */
  constructor(hook: EventHook | undefined, signal: AbortSignal | undefined) {
    this.#hook = hook;
    this.#signal = signal;
  }

  /** Whether the hook is busy with an event. */
  get isTelling(): boolean {
    return this.#telling > 0;
  }

  /** Tells the hook. */
  async emit(event: ChatEvent): Promise<void> {
    const hook = this.#hook;
    if (!hook) return;
    const before = this.#last;
    this.#telling += 1;
    const told = (async () => {
      await before;
      this.#signal?.throwIfAborted();
      try {
        await untilAborted(Promise.resolve(hook(event)), this.#signal);
      } catch (error) {
        this.#thrown = error;
        throw error;
      }
    })();
    this.#last = told.catch(() => undefined);
    try {
      await told;
    } finally {
      this.#telling -= 1;
    }
  }

  /** Tells the hook of an error, except of one that it threw itself. */
  async report(turn: number, error: unknown): Promise<void> {
    if (error !== this.#thrown) await this.emit({ type: "error_occurred", turn, error });
  }
}
