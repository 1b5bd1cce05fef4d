/** Requests and responses of the client, without any I/O. */

import { create, type Message } from "@bufbuild/protobuf";
import type { RpcOptions } from "./channel.js";
import { checkedMs, toDuration } from "./durations.js";
import { type ExecutionMode, type FailurePolicy, modeNumber, policyNumber } from "./enums.js";
import { type SidecallError, SidecallError as RpcError } from "./errors.js";
import type { Approval } from "./gen/sidecall/v1/execution_pb.js";
import {
  type ExecuteBatchRequest,
  ExecuteBatchRequestSchema,
  type ExecuteBatchResponse,
  type StreamStart,
  StreamStartSchema,
} from "./gen/sidecall/v1/tool_service_pb.js";
import { type BatchResults, resultOf, scheduleOf } from "./results.js";
import { type ToolCallLike, toToolCall } from "./toolCalls.js";

/** What may be said about a batch. What is left out is the sidecar's default. */
export interface BatchOptions {
  /** How the calls are ordered against each other. */
  mode?: ExecutionMode | undefined;
  /** What a failed call means for the rest. */
  onFailure?: FailurePolicy | undefined;
  /** Most calls of the batch that run at a time. */
  maxConcurrency?: number | undefined;
  /**
   * Milliseconds for the calls, from receipt. `timeoutMs` bounds the whole RPC as well, its
   * repetitions included.
   */
  batchTimeoutMs?: number | undefined;
  /** Facts about the end user; tools and policies see them, the model does not. */
  context?: Readonly<Record<string, string>> | undefined;
  /**
   * Key under which the batch may be sent again without running a call twice; a UUID, for
   * example. Calls, mode and onFailure must then be the same. Calls that have started go on
   * when the client cancels or loses its connection.
   */
  requestId?: string | undefined;
  /**
   * Where a batch with the `requestId` was sent before: `SidecallError.sentToInstance` of that
   * send, or `instanceId` of the sidecar's capabilities, read before it. Another sidecar that
   * cannot know what has run then refuses, with reason REQUEST_FORGOTTEN, instead of running it
   * again.
   */
  sentToInstance?: string | undefined;
  /** Session whose earlier results may be referenced, and which gets those of this batch. */
  sessionId?: string | undefined;
  /**
   * Decisions, made by `approve` and `reject`, on calls of an earlier send of the same calls;
   * `requestId` is that of its results.
   */
  approvals?: readonly Approval[] | undefined;
  /** Bytes that the results may take together. */
  maxResponseBytes?: number | undefined;
  /** Passes argument strings as they are. */
  disableReferences?: boolean | undefined;
}

/** What may be said about a batch and its RPC. */
export type ExecuteOptions = BatchOptions & RpcOptions;

/** Makes the request of ExecuteBatch; throws as `toToolCall` does. */
export function batchRequest(
  calls: Iterable<ToolCallLike>,
  options: BatchOptions,
): ExecuteBatchRequest {
  return create(ExecuteBatchRequestSchema, {
    calls: Array.from(calls, toToolCall),
    ...fieldsOf(options),
  });
}

/** Makes the message that opens StreamBatch. */
export function streamStart(options: BatchOptions): StreamStart {
  return create(StreamStartSchema, fieldsOf(options));
}

/**
 * Reads the response of ExecuteBatch.
 *
 * @throws SidecallError: There is not one result per call.
 */
export function batchResults(
  request: ExecuteBatchRequest,
  response: ExecuteBatchResponse,
): BatchResults {
  const [sent, came] = [request.calls.length, response.results.length];
  if (sent !== came) {
    throw new RpcError(`${sent} calls were sent but ${came} results came back`, {
      code: "INTERNAL",
    });
  }
  return {
    results: response.results.map(resultOf),
    requestId: response.requestId,
    schedule: response.schedule && scheduleOf(response.schedule),
  };
}

/** Whether the sidecar may have been restarted since its instance was asked for. */
export function forgetsInstance(error: SidecallError): boolean {
  return error.code === "UNAVAILABLE" || error.reason === "REQUEST_FORGOTTEN";
}

function fieldsOf(options: BatchOptions): Partial<Omit<StreamStart, keyof Message>> {
  const timeoutMs = checkedMs("batchTimeoutMs", options.batchTimeoutMs);
  return {
    ...(options.mode && { mode: modeNumber(options.mode) }),
    ...(options.onFailure && { onFailure: policyNumber(options.onFailure) }),
    maxConcurrency: checkedCount("maxConcurrency", options.maxConcurrency),
    ...(timeoutMs !== undefined && { timeout: toDuration(timeoutMs) }),
    requestId: options.requestId ?? "",
    sessionId: options.sessionId ?? "",
    context: { ...options.context },
    maxResponseBytes: BigInt(checkedCount("maxResponseBytes", options.maxResponseBytes)),
    disableReferences: options.disableReferences ?? false,
    approvals: [...(options.approvals ?? [])],
    sentToInstance: options.sentToInstance ?? "",
  };
}

function checkedCount(name: string, value = 0): number {
  if (!Number.isSafeInteger(value))
    throw new RangeError(`${name} must be an integer, not ${value}`);
  return value;
}
