/** What a host answers: results of functions as messages. */

import { randomBytes } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { toDuration } from "../durations.js";
import {
  ExecutionState,
  type ResultPart,
  ResultPartSchema,
} from "../gen/sidecall/v1/execution_pb.js";
import {
  type AttachRequest,
  AttachRequestSchema,
  type HostResult,
  HostResultSchema,
} from "../gen/sidecall/v1/tool_host_pb.js";
import { codeNumber, type StatusCode } from "../statusDetails.js";
import { escapeSurrogates, quoted } from "../texts.js";
import { jsonText } from "./jsonText.js";
import { PartValue } from "./parts.js";
import { ResultError, ToolError } from "./toolError.js";

/** Takes what must not go to the model: an error's text, and the id that the model is told. */
export type ErrorLog = (text: string, error: unknown) => void;

/**
 * The result of a function that returned.
 *
 * @throws ResultError: The value cannot be written.
 */
export function returned(value: unknown): HostResult {
  return create(HostResultSchema, {
    value: valueOf(value),
    executionState: ExecutionState.COMPLETED,
  });
}

/** The result of a function that threw. Only the text of a ToolError goes to the model. */
export function thrown(
  name: string,
  error: unknown,
  log: ErrorLog,
  state = ExecutionState.COMPLETED,
): HostResult {
  if (error instanceof ToolError) {
    const message = escapeSurrogates(error.message) || `Tool ${quoted(name)} failed.`;
    return failed(error.code, message, state, error.retryAfterMs);
  }
  if (error instanceof ResultError) {
    log(`tool ${name}: the returned value ${error.message}`, error);
    const text = `ran, but its result cannot be passed on: it ${error.message}.`;
    return failed("UNKNOWN", `Tool ${quoted(name)} ${text}`, state);
  }
  const errorId = randomBytes(4).toString("hex");
  log(`tool ${name} failed (error ${errorId})`, error);
  const text = `Tool ${quoted(name)} failed with an internal error (id ${errorId}).`;
  return failed("UNKNOWN", text, state);
}

/** The result of a call that has none of its function. */
export function failed(
  code: StatusCode,
  message: string,
  executionState: ExecutionState,
  retryAfterMs?: number,
): HostResult {
  return create(HostResultSchema, {
    status: { code: codeNumber(code), message },
    executionState,
    ...(retryAfterMs !== undefined && { retryAfter: toDuration(retryAfterMs) }),
  });
}

/** The result of a call that nobody waits for. */
export function givenUp(expired: boolean, started: boolean): HostResult {
  const state = started ? ExecutionState.UNKNOWN : ExecutionState.NOT_STARTED;
  return expired
    ? failed("DEADLINE_EXCEEDED", "The time for the call was over.", state)
    : failed("CANCELLED", "The call was cancelled.", state);
}

/** The result of a call whose function still runs when the host ends. */
export function abandoned(): HostResult {
  const text = "The application ended while the tool ran.";
  return failed("CANCELLED", text, ExecutionState.UNKNOWN);
}

/** The message of a result; one that is larger than the sidecar takes is replaced. */
export function fitting(result: HostResult, maxBytes: number): AttachRequest {
  const message = create(AttachRequestSchema, { message: { case: "result", value: result } });
  const size = toBinary(AttachRequestSchema, message).length;
  if (size <= maxBytes) return message;
  const text =
    `The tool ran, but its result of ${size} bytes is larger than the ${maxBytes} ` +
    "bytes that are allowed, and was thrown away. The same call gives the same again: ask " +
    "for less, for example with a narrower query, fewer fields, or one page at a time.";
  const refusal = failed("RESOURCE_EXHAUSTED", text, result.executionState);
  refusal.attemptId = result.attemptId;
  return create(AttachRequestSchema, { message: { case: "result", value: refusal } });
}

function valueOf(value: unknown): HostResult["value"] {
  if (typeof value === "string") return { case: "text", value: escapeSurrogates(value) };
  if (value instanceof Uint8Array) return { case: "text", value: decoded(value) };
  const items: unknown[] = Array.isArray(value) ? value : [value];
  if (!items.some((item) => item instanceof PartValue))
    return { case: "json", value: jsonText(value) };
  const parts = items.flatMap((item) => (item === "" ? [] : partOf(item)));
  return { case: "parts", value: { $typeName: "sidecall.v1.HostParts", parts } };
}

function partOf(item: unknown): ResultPart {
  if (!(item instanceof PartValue)) {
    const inner = valueOf(item);
    const part = inner.case === "text" || inner.case === "json" ? inner : { case: undefined };
    return create(ResultPartSchema, { part });
  }
  const { part } = item;
  const name = escapeSurrogates(part.name);
  return part.type === "blob"
    ? create(ResultPartSchema, { part: { case: "blob", value: { ...part, name } } })
    : create(ResultPartSchema, { part: { case: "link", value: { ...part, name } } });
}

function decoded(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ResultError("is bytes that are not UTF-8 text; return image() or file()");
  }
}
