/** Functions as tools. */

import { create } from "@bufbuild/protobuf";
import { checkedMs, toDuration } from "../durations.js";
import { type Effects, effectsNumber } from "../enums.js";
import { ExecutionState } from "../gen/sidecall/v1/execution_pb.js";
import type { HostResult } from "../gen/sidecall/v1/tool_host_pb.js";
import {
  ToolLimitsSchema,
  type Tool as ToolMessage,
  ToolSchema,
} from "../gen/sidecall/v1/tool_pb.js";
import type { JsonSchema, Rate } from "../tools.js";
import type { ToolContext } from "./context.js";
import { failed } from "./hostResults.js";
import { isStandard, issueLines, schemaText, type StandardSchema } from "./schema.js";

/** Limits of a tool. What is left out is the sidecar's default. */
export interface ToolLimitOptions {
  /** Most calls that run at a time, on all hosts together. */
  maxConcurrency?: number | undefined;
  /** Most calls that may be ready and waiting. */
  maxQueue?: number | undefined;
  /** Milliseconds that one attempt may take. */
  timeoutMs?: number | undefined;
  /** Milliseconds that a ready call may wait. */
  queueTimeoutMs?: number | undefined;
  /** How often it may start; `burst` is by default that of the sidecar. */
  rate?: (Omit<Rate, "burst"> & Partial<Pick<Rate, "burst">>) | undefined;
  /** Names of the limits that it shares with other tools. */
  groups?: readonly string[] | undefined;
  /** Most attempts of a call: more than 1 retries what is declared harmless. */
  maxAttempts?: number | undefined;
  /** Milliseconds for which a result answers identical calls. */
  cacheTtlMs?: number | undefined;
  /** Bytes that one result may take. */
  maxResultBytes?: number | undefined;
}

/** A function and what a model and the sidecar are told about it. */
export interface ToolDefinition<Arguments> {
  /** Name, unique in the sidecar. */
  name: string;
  /** What it does, for the model. */
  description: string;
  /** Schema of what it returns. */
  outputSchema?: JsonSchema | StandardSchema | undefined;
  /** What running it may change; by default it may do harm. */
  effects?: Effects | undefined;
  limits?: ToolLimitOptions | undefined;
  /** Whether a human decides on each call before it runs. */
  requiresApproval?: boolean | undefined;
  /** Template of the key of its lane: calls with one key run one at a time. */
  lane?: string | undefined;
  /**
   * Runs a call. A string goes to the model as it is, any other value as JSON, `image`, `file`
   * and `link` as such, also in a list beside text. Text that an async generator yields is
   * passed on as it comes. A `ToolError` tells the model what went wrong.
   */
  execute: (given: Arguments, context: ToolContext) => unknown;
}

/** A tool that a host can offer. */
export interface HostedTool {
  readonly name: string;
  /** How the sidecar is told about it. */
  readonly message: ToolMessage;
  /** Makes the function's arguments of JSON; a result where they do not fit. */
  readonly prepare: (given: unknown) => Promise<{ given: unknown } | { refusal: HostResult }>;
  readonly execute: (given: unknown, context: ToolContext) => unknown;
}

/**
 * Makes a tool of a function.
 *
 * The sidecar has checked the arguments against the JSON Schema. Where the schema is one of a
 * library, the function gets what that makes of them.
 *
 * @throws TypeError: The schema cannot be written as JSON Schema.
 * @throws RangeError: A limit makes no sense.
 */
export function tool<Arguments = Record<string, unknown>>(
  definition: ToolDefinition<Arguments> & {
    inputSchema?: JsonSchema | StandardSchema<Arguments> | undefined;
  },
): HostedTool {
  const { name, inputSchema = NO_ARGUMENTS } = definition;
  return {
    name,
    message: messageOf(definition, schemaText(inputSchema, "input")),
    prepare: async (given) => {
      if (!isStandard(inputSchema)) return { given };
      const checked = await inputSchema["~standard"].validate(given);
      if (!checked.issues) return { given: checked.value };
      const text = "The arguments are invalid. Correct them and call the tool again:";
      const lines = `${text}\n${issueLines(checked.issues)}`;
      return { refusal: failed("INVALID_ARGUMENT", lines, ExecutionState.NOT_STARTED) };
    },
    execute: definition.execute as HostedTool["execute"],
  };
}

const NO_ARGUMENTS = { type: "object", properties: {}, additionalProperties: false };

function messageOf(
  definition: Omit<ToolDefinition<never>, "execute">,
  inputSchema: string,
): ToolMessage {
  const { name, description, outputSchema, effects = "non_idempotent" } = definition;
  if (!name) throw new RangeError("a tool needs a name");
  return create(ToolSchema, {
    name,
    description,
    inputSchema,
    outputSchema: outputSchema ? schemaText(outputSchema, "output") : "",
    effects: effectsNumber(effects),
    limits: limitsOf(definition.limits ?? {}),
    requiresApproval: definition.requiresApproval ?? false,
    lane: definition.lane ?? "",
  });
}

function limitsOf(limits: ToolLimitOptions): NonNullable<ToolMessage["limits"]> {
  const { rate } = limits;
  const time = (field: "timeout" | "queueTimeout" | "cacheTtl"): object => {
    const value = checkedMs(`limits.${field}Ms`, limits[`${field}Ms`]);
    return value === undefined ? {} : { [field]: toDuration(value) };
  };
  return create(ToolLimitsSchema, {
    maxConcurrency: limits.maxConcurrency ?? 0,
    maxQueue: limits.maxQueue ?? 0,
    ...time("timeout"),
    ...time("queueTimeout"),
    ...time("cacheTtl"),
    ...(rate && {
      rate: {
        count: BigInt(rate.count),
        period: toDuration(checkedMs("limits.rate.periodMs", rate.periodMs) ?? 0),
        burst: BigInt(rate.burst ?? 0),
      },
    }),
    groups: [...(limits.groups ?? [])],
    maxAttempts: limits.maxAttempts ?? 0,
    maxResultBytes: BigInt(limits.maxResultBytes ?? 0),
  });
}
