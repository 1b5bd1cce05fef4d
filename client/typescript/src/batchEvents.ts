/** Events of a turn over StreamBatch, as plain objects. */

import { type BlockCause, blockCauseName } from "./enums.js";
import { errorFromStatus, type SidecallError } from "./errors.js";
import type * as pb from "./gen/sidecall/v1/tool_service_pb.js";
import { ms, resultOf, type Schedule, scheduleOf, type ToolResult } from "./results.js";

/** Closes a turn. */
export interface BatchSummary {
  /** Number of results that were sent. */
  readonly callCount: number;
  /** How many of them have status OK. */
  readonly okCount: number;
  /** Whether the turn was sealed. */
  readonly sealed: boolean;
  /** Why the turn was abandoned, where the client broke the protocol or the sidecar failed. */
  readonly error: SidecallError | undefined;
  /** Time from receipt to the last result. */
  readonly durationMs: number;
  /** See `BatchResults.requestId`. */
  readonly requestId: string;
  /** How long the turn took, and why. */
  readonly schedule: Schedule | undefined;
}

/** Something that happened in a turn. `index` is the place of a call, counted from 0. */
export type BatchEvent =
  | { readonly type: "accepted"; readonly receivedUnixMs: number }
  | {
      readonly type: "queued";
      readonly index: number;
      readonly cause: BlockCause;
      /** Indexes of the calls that it depends on and that are not final. */
      readonly waitingFor: readonly number[];
    }
  | { readonly type: "started"; readonly index: number; readonly attempt: number }
  | {
      readonly type: "progress";
      readonly index: number;
      readonly progress: number;
      readonly total: number | undefined;
      readonly message: string;
    }
  | { readonly type: "partial_output"; readonly index: number; readonly text: string }
  | { readonly type: "result"; readonly index: number; readonly result: ToolResult }
  | { readonly type: "summary"; readonly summary: BatchSummary };

/** Makes a plain object of an event; undefined where this version does not know its kind. */
export function batchEventOf({ event }: pb.BatchEvent): BatchEvent | undefined {
  switch (event.case) {
    case "accepted":
      return { type: "accepted", receivedUnixMs: ms(event.value.receivedUnixNanos) };
    case "queued": {
      const { index, cause, waitingFor } = event.value;
      return { type: "queued", index, cause: blockCauseName(cause), waitingFor };
    }
    case "started":
      return { type: "started", index: event.value.index, attempt: event.value.attempt };
    case "progress": {
      const { index, progress, total, message } = event.value;
      return { type: "progress", index, progress, total, message };
    }
    case "partialOutput":
      return { type: "partial_output", index: event.value.index, text: event.value.text };
    case "result": {
      const { index, result } = event.value;
      return result && { type: "result", index, result: resultOf(result) };
    }
    case "summary":
      return { type: "summary", summary: summaryOf(event.value) };
    case undefined:
      return undefined;
  }
}

function summaryOf(message: pb.BatchSummary): BatchSummary {
  return {
    callCount: message.callCount,
    okCount: message.okCount,
    sealed: message.sealed,
    error: message.status?.code ? errorFromStatus(message.status) : undefined,
    durationMs: ms(message.durationNs),
    requestId: message.requestId,
    schedule: message.schedule && scheduleOf(message.schedule),
  };
}
