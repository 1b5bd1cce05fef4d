/** Tool calls of every shape as messages of the contract. */

import { create } from "@bufbuild/protobuf";
import { checkedMs, toDuration } from "./durations.js";
import {
  type ToolCall as ToolCallMessage,
  ToolCallSchema,
} from "./gen/sidecall/v1/execution_pb.js";
import { escapeSurrogates } from "./texts.js";

/** Arguments of a call: JSON text, or an object that is made into it. */
export type Arguments = string | Readonly<Record<string, unknown>>;

/** One call of a tool. */
export interface ToolCall {
  /** Name of the tool. */
  name: string;
  /** JSON text, or an object that is made into it; by default `{}`. */
  arguments?: Arguments | null | undefined;
  /** Id that the model's provider gave the call; may be left out or repeated. */
  id?: string | null | undefined;
  /** Ids of calls that must end OK before this one starts. */
  dependsOn?: readonly string[] | undefined;
  /** Milliseconds for the call from receipt to result, waiting included. */
  timeoutMs?: number | undefined;
  /** Key that tells a repeated call from a new one, across requests. */
  idempotencyKey?: string | undefined;
}

/** A tool call as the Chat Completions API returns it. */
export interface ChatCompletionsCall {
  id: string;
  function: { name: string; arguments: string };
}

/** A function call item as the Responses API returns it. */
export interface ResponsesCall {
  type: "function_call";
  call_id: string;
  name: string;
  arguments: string;
}

/** A call: its fields, the contract's message, or a provider's object. */
export type ToolCallLike = ToolCall | ToolCallMessage | ChatCompletionsCall | ResponsesCall;

const FIELDS = new Set([
  ...["id", "name", "arguments", "timeoutMs", "dependsOn", "idempotencyKey"],
  "type",
]);

/**
 * Makes the contract's message of a call.
 *
 * @throws TypeError: It is no call, or a field has a value of another type.
 * @throws RangeError: Its timeout is not positive and finite.
 */
export function toToolCall(call: ToolCallLike): ToolCallMessage {
  if (typeof call !== "object" || (call as unknown) === null) {
    throw new TypeError(`not a tool call: ${typeof call}`);
  }
  if ("$typeName" in call) return call;
  if ("function" in call) {
    const { name, arguments: given } = call.function;
    return makeToolCall({ id: call.id, name, arguments: given });
  }
  if ("call_id" in call) {
    return makeToolCall({ id: call.call_id, name: call.name, arguments: call.arguments });
  }
  const unknown = Object.keys(call).filter((key) => !FIELDS.has(key));
  if (unknown.length > 0) throw new TypeError(`a call has no ${unknown.join(", ")}`);
  return makeToolCall(call);
}

/** Makes a call of its fields; throws as `toToolCall` does. */
export function makeToolCall(call: ToolCall): ToolCallMessage {
  const timeoutMs = checkedMs("a call's timeoutMs", call.timeoutMs);
  const dependsOn = call.dependsOn ?? [];
  if (!Array.isArray(dependsOn)) throw wrongType("dependsOn", "a list of ids", dependsOn);
  return create(ToolCallSchema, {
    id: text("id", call.id ?? ""),
    name: text("name", call.name),
    arguments: argumentsText(call.arguments),
    dependsOn: dependsOn.map((id) => text("dependsOn", id, "a list of ids")),
    idempotencyKey: text("idempotencyKey", call.idempotencyKey ?? ""),
    ...(timeoutMs !== undefined && { timeout: toDuration(timeoutMs) }),
  });
}

/** Makes JSON text of arguments that are an object. */
export function argumentsText(given: Arguments | null | undefined): string {
  const isObject = typeof given === "object" && given !== null && !Array.isArray(given);
  return text(
    "arguments",
    isObject ? JSON.stringify(given) : (given ?? ""),
    "an object or JSON text",
  );
}

function text(field: string, value: unknown, expected = "text"): string {
  if (typeof value !== "string") throw wrongType(field, expected, value);
  return escapeSurrogates(value);
}

function wrongType(field: string, expected: string, value: unknown): TypeError {
  const shown = value === undefined ? "undefined" : JSON.stringify(value);
  return new TypeError(`a call's ${field} must be ${expected}, not ${shown}`);
}
