/** Results of calls, as plain objects. */

import type { BlockCause, ExecutionState } from "./enums.js";
import { blockCauseName, executionStateName } from "./enums.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import type * as pb from "./gen/sidecall/v1/execution_pb.js";
import {
  type StatusCode,
  type Violation,
  codeName,
  reasonIn,
  retryDelayMs,
  violationsIn,
} from "./statusDetails.js";

/** A typed part of a result. */
export type ResultPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "json"; readonly json: string }
  | {
      readonly type: "blob";
      readonly mediaType: string;
      readonly data: Uint8Array;
      readonly name: string;
    }
  | {
      readonly type: "link";
      readonly uri: string;
      readonly mediaType: string;
      readonly name: string;
    };

/** What went wrong, or not. */
export interface Outcome {
  /** Status code; "OK" where the tool returned. */
  readonly code: StatusCode;
  /** Why it failed, in UPPER_SNAKE_CASE, for example "TOOL_TIMEOUT"; empty where it did not. */
  readonly reason: string;
  /** The status' message. */
  readonly message: string;
}

/** An attempt that was followed by another one. */
export interface FailedAttempt extends Outcome {
  /** When it was started, counted from the call's receipt; undefined: it was not. */
  readonly startedOffsetMs: number | undefined;
  /** When its outcome was known, counted from the call's receipt. */
  readonly finishedOffsetMs: number;
}

/** When a call got how far and what it waited for. Offsets count from the receipt. */
export interface CallTiming {
  /** When the call was received, in milliseconds since the Unix epoch. */
  readonly receivedUnixMs: number;
  /** When its dependencies were final and its turn had come; undefined: never. */
  readonly readyOffsetMs: number | undefined;
  /** When its last attempt was started; undefined: never. */
  readonly startedOffsetMs: number | undefined;
  /** When its result was final. */
  readonly finishedOffsetMs: number;
  /** Time blocked, by cause; causes that cost nothing are left out. */
  readonly blockedMs: Partial<Record<BlockCause, number>>;
}

/** The one result of one call. */
export interface ToolResult extends Outcome {
  /** Id of the call that it answers. */
  readonly callId: string;
  /** Name of the tool. */
  readonly name: string;
  /** Whether the tool returned. */
  readonly ok: boolean;
  /** Text for the model, for failures too; never empty. */
  readonly content: string;
  /** Typed parts, where the tool returned more than text. */
  readonly parts: readonly ResultPart[];
  /** How far the call got. It decides whether the call may be made again. */
  readonly executionState: ExecutionState;
  /** What is wrong with the call's arguments. */
  readonly violations: readonly Violation[];
  /** Milliseconds after which the call may be made again, where that is known. */
  readonly retryAfterMs: number | undefined;
  /** Number of attempts that were started. */
  readonly attempts: number;
  /** Attempts that failed and were followed by another one, in order. */
  readonly failedAttempts: readonly FailedAttempt[];
  /** When things happened. */
  readonly timing: CallTiming | undefined;
  /** Whether something was cut or left out to fit a budget. */
  readonly truncated: boolean;
  /** Whether it was kept from an earlier send, or of a call with the same idempotency key. */
  readonly replayed: boolean;
  /** Whether it is that of an identical call in flight or of the cache. */
  readonly coalesced: boolean;
  /** Id under which a human can decide on the call; empty where it does not wait for one. */
  readonly approvalId: string;
  /** JSON text of what the call would run with: what the human decides on. */
  readonly approvalArguments: string;
}

/** Explains how long a batch took. */
export interface Schedule {
  /** From receipt to the last result. */
  readonly durationMs: number;
  /** What the calls would have taken one after the other. */
  readonly sequentialMs: number;
  /** How much faster the batch was than that; 0 where nothing ran. */
  readonly speedUp: number;
  /** The calls that decided when the batch ended, in order. */
  readonly criticalPath: readonly CriticalStep[];
}

/** One call of a critical path. */
export interface CriticalStep {
  /** Index of the call. */
  readonly index: number;
  /** Why it could not start before the call before it had ended. */
  readonly cause: BlockCause;
  /** From the end of the step before it to the start of the call's last attempt. */
  readonly waitingMs: number;
  /** From that start to its result. */
  readonly runningMs: number;
}

/** What a batch came to. */
export interface BatchResults {
  /** One result per call, in call order. */
  readonly results: readonly ToolResult[];
  /**
   * Key under which the batch may be sent again without running a call twice: that of the
   * request, or one that the sidecar made because a call waits for approval. Empty where there
   * is none.
   */
  readonly requestId: string;
  /** How long the batch took, and why. */
  readonly schedule: Schedule | undefined;
}

/** Makes a plain object of the contract's message. */
export function resultOf(message: pb.ToolResult): ToolResult {
  const { status } = message;
  return {
    callId: message.callId,
    name: message.name,
    ok: !status?.code,
    content: message.content,
    parts: message.parts.flatMap(partOf),
    ...outcomeOf(status),
    executionState: executionStateName(message.executionState),
    violations: status ? violationsIn(status) : [],
    retryAfterMs: status && retryDelayMs(status),
    attempts: message.attempts,
    failedAttempts: message.failedAttempts.map((attempt) => ({
      ...outcomeOf(attempt.status),
      startedOffsetMs: optionalMs(attempt.startedOffsetNs),
      finishedOffsetMs: ms(attempt.finishedOffsetNs),
    })),
    timing: message.timing && timingOf(message.timing),
    truncated: message.truncated,
    replayed: message.replayed,
    coalesced: message.coalesced,
    approvalId: message.approvalId,
    approvalArguments: message.approvalArguments,
  };
}

/** Makes a plain object of a schedule. */
export function scheduleOf(message: pb.Schedule): Schedule {
  return {
    durationMs: ms(message.durationNs),
    sequentialMs: ms(message.sequentialNs),
    speedUp: message.speedUp,
    criticalPath: message.criticalPath.map((step) => ({
      index: step.index,
      cause: blockCauseName(step.cause),
      waitingMs: ms(step.waitingNs),
      runningMs: ms(step.runningNs),
    })),
  };
}

/** Milliseconds of nanoseconds. */
export function ms(nanoseconds: bigint): number {
  return Number(nanoseconds) / 1e6;
}

function optionalMs(nanoseconds: bigint | undefined): number | undefined {
  return nanoseconds === undefined ? undefined : ms(nanoseconds);
}

function outcomeOf(status: Status | undefined): Outcome {
  if (!status?.code) return { code: "OK", reason: "", message: "" };
  return { code: codeName(status.code), reason: reasonIn(status), message: status.message };
}

function partOf({ part }: pb.ResultPart): ResultPart[] {
  switch (part.case) {
    case "text":
      return [{ type: "text", text: part.value }];
    case "json":
      return [{ type: "json", json: part.value }];
    case "blob": {
      const { mediaType, data, name } = part.value;
      return [{ type: "blob", mediaType, data, name }];
    }
    case "link": {
      const { uri, mediaType, name } = part.value;
      return [{ type: "link", uri, mediaType, name }];
    }
    case undefined:
      return []; // Of a kind that this version does not know.
  }
}

function timingOf(timing: pb.CallTiming): CallTiming {
  const blocked: [BlockCause, bigint][] = [
    ["REFERENCE", timing.blockedOnReferenceNs],
    ["ORDER", timing.blockedOnOrderNs],
    ["SEAL", timing.blockedOnSealNs],
    ["LANE", timing.blockedOnLaneNs],
    ["TOOL_LIMIT", timing.blockedOnToolLimitNs],
    ["GROUP_LIMIT", timing.blockedOnGroupLimitNs],
    ["RATE", timing.blockedOnRateNs],
    ["BATCH_LIMIT", timing.blockedOnBatchLimitNs],
    ["GLOBAL_LIMIT", timing.blockedOnGlobalLimitNs],
    ["BACKOFF", timing.blockedOnBackoffNs],
    ["SAME_CALL", timing.blockedOnSameCallNs],
  ];
  return {
    receivedUnixMs: ms(timing.receivedUnixNanos),
    readyOffsetMs: optionalMs(timing.readyOffsetNs),
    startedOffsetMs: optionalMs(timing.startedOffsetNs),
    finishedOffsetMs: ms(timing.finishedOffsetNs),
    blockedMs: Object.fromEntries(
      blocked.filter(([, ns]) => ns > 0n).map(([cause, ns]) => [cause, ms(ns)]),
    ),
  };
}
