/** Tools and capabilities of a sidecar, as plain objects. */

import type { Duration } from "@bufbuild/protobuf/wkt";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { type Effects, effectsName } from "./enums.js";
import {
  ToolHealth,
  type ToolLimits as LimitsMessage,
  type Tool as ToolMessage,
} from "./gen/sidecall/v1/tool_pb.js";
import type { GetCapabilitiesResponse } from "./gen/sidecall/v1/tool_service_pb.js";

/** A JSON Schema (2020-12). */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** Limits of one tool. */
export interface ToolLimits {
  /** Most calls that run at a time, across all batches and clients. */
  readonly maxConcurrency: number;
  /** Most calls that may be ready and waiting. */
  readonly maxQueue: number;
  /** Time that one attempt may take. */
  readonly timeoutMs: number | undefined;
  /** Time that a ready call may wait. */
  readonly queueTimeoutMs: number | undefined;
  /** How often it may start; undefined: as often as the other limits allow. */
  readonly rate: Rate | undefined;
  /** Names of the limits that it shares with other tools. */
  readonly groups: readonly string[];
  /** Most attempts of a call; 1 without retries. */
  readonly maxAttempts: number;
  /** Time for which a result answers identical calls; undefined: not at all. */
  readonly cacheTtlMs: number | undefined;
  /** Bytes that one result may take; 0 without a bound of its own. */
  readonly maxResultBytes: number;
}

/** How often something may start. */
export interface Rate {
  /** Starts per period in the long run. */
  readonly count: number;
  /** The period. */
  readonly periodMs: number;
  /** Starts that may come at once after a pause. */
  readonly burst: number;
}

/** A tool that a sidecar offers. */
export interface Tool {
  /** Name, unique in the sidecar; a provider may refuse it: see `ToolNames`. */
  readonly name: string;
  /** What the tool does, for the model. */
  readonly description: string;
  /** Schema of the arguments; always of an object. */
  readonly inputSchema: JsonSchema;
  /** Schema of the result, where the tool declares one. */
  readonly outputSchema: JsonSchema | undefined;
  /** What running the tool may change. */
  readonly effects: Effects;
  /** Limits in force. */
  readonly limits: ToolLimits;
  /** Whether the tool can be called at present. */
  readonly available: boolean;
  /** Whether a human decides on each call before it runs. */
  readonly requiresApproval: boolean;
  /** Template of the key of its lane; empty without one. */
  readonly lane: string;
}

/** Tools of a caller, ordered by name. */
export type ToolList = Tool[] & {
  /** Opaque value that changes when they or their descriptions do. */
  readonly revision: string;
};

/** What a client can rely on. */
export interface Capabilities {
  readonly serverVersion: string;
  readonly apiVersions: readonly string[];
  /** Names of features; clients ignore those that they do not know. */
  readonly features: readonly string[];
  readonly maxCallsPerBatch: number;
  readonly maxMessageBytes: number;
  readonly maxOpenBatches: number;
  readonly maxArgumentDepth: number;
  readonly maxConcurrency: number;
  readonly maxBatchConcurrency: number;
  readonly maxThreads: number;
  readonly maxProcesses: number;
  readonly defaultAttemptTimeoutMs: number | undefined;
  readonly defaultQueueTimeoutMs: number | undefined;
  readonly defaultMaxResponseBytes: number;
  readonly streamIdleTimeoutMs: number | undefined;
  /** Time after its last use for which a request id or an idempotency key is remembered. */
  readonly requestRetentionMs: number | undefined;
  /** Whether request ids, idempotency keys and approvals survive the sidecar's process. */
  readonly durableRequests: boolean;
  readonly sessionRetentionMs: number | undefined;
  /** Differs with each start of the sidecar. */
  readonly instanceId: string;
}

/** Makes a plain object of the contract's message. */
export function toolOf(message: ToolMessage): Tool {
  return {
    name: message.name,
    description: message.description,
    inputSchema: schemaOf(message.inputSchema) ?? {},
    outputSchema: schemaOf(message.outputSchema),
    effects: effectsName(message.effects),
    limits: limitsOf(message.limits),
    available: message.health !== ToolHealth.UNAVAILABLE,
    requiresApproval: message.requiresApproval,
    lane: message.lane,
  };
}

/** Makes a plain object of the contract's message. */
export function capabilitiesOf(message: GetCapabilitiesResponse): Capabilities {
  return {
    serverVersion: message.serverVersion,
    apiVersions: message.apiVersions,
    features: message.features,
    maxCallsPerBatch: message.maxCallsPerBatch,
    maxMessageBytes: Number(message.maxMessageBytes),
    maxOpenBatches: message.maxOpenBatches,
    maxArgumentDepth: message.maxArgumentDepth,
    maxConcurrency: message.maxConcurrency,
    maxBatchConcurrency: message.maxBatchConcurrency,
    maxThreads: message.maxThreads,
    maxProcesses: message.maxProcesses,
    defaultAttemptTimeoutMs: optionalMs(message.defaultAttemptTimeout),
    defaultQueueTimeoutMs: optionalMs(message.defaultQueueTimeout),
    defaultMaxResponseBytes: Number(message.defaultMaxResponseBytes),
    streamIdleTimeoutMs: optionalMs(message.streamIdleTimeout),
    requestRetentionMs: optionalMs(message.requestRetention),
    durableRequests: message.durableRequests,
    sessionRetentionMs: optionalMs(message.sessionRetention),
    instanceId: message.instanceId,
  };
}

function limitsOf(message: LimitsMessage | undefined): ToolLimits {
  const { rate } = message ?? {};
  return {
    maxConcurrency: message?.maxConcurrency ?? 0,
    maxQueue: message?.maxQueue ?? 0,
    timeoutMs: optionalMs(message?.timeout),
    queueTimeoutMs: optionalMs(message?.queueTimeout),
    rate: rate && {
      count: Number(rate.count),
      periodMs: optionalMs(rate.period) ?? 0,
      burst: Number(rate.burst),
    },
    groups: message?.groups ?? [],
    maxAttempts: message?.maxAttempts ?? 1,
    cacheTtlMs: optionalMs(message?.cacheTtl),
    maxResultBytes: Number(message?.maxResultBytes ?? 0n),
  };
}

function schemaOf(text: string): JsonSchema | undefined {
  return text ? (JSON.parse(text) as JsonSchema) : undefined;
}

function optionalMs(duration: Duration | undefined): number | undefined {
  return duration && durationMs(duration);
}
