/** The world of the function that a host runs for a call. */

import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type AttachRequest,
  AttachRequestSchema,
  type HostCall,
} from "../gen/sidecall/v1/tool_host_pb.js";
import { escapeSurrogates } from "../texts.js";
import type { ToolContext } from "./context.js";

/** Characters of partial output in one message. */
const OUTPUT_CHARACTERS = 256 * 1024;

/** A context that reports nothing any more once its call has a result. */
export type HostedContext = ToolContext & { end(): void };

/**
 * Makes the context of a call.
 *
 * @param report - Sends progress or partial output, if there is room.
 */
export function contextOf(
  message: HostCall,
  signal: AbortSignal,
  report: (message: AttachRequest) => void,
): HostedContext {
  const { attemptId, timeout } = message;
  const deadline = timeout && performance.now() + durationMs(timeout);
  let isOver = false;
  const send = (body: AttachRequest["message"]): void => {
    if (!isOver) report(create(AttachRequestSchema, { message: body }));
  };
  return {
    signal,
    toolName: message.name,
    callId: message.callId,
    attempt: message.attempt,
    context: message.context,
    idempotencyKey: message.idempotencyKey,
    traceparent: message.traceparent,
    tracestate: message.tracestate,
    argumentsText: message.arguments,
    remainingMs: () =>
      deadline === undefined ? undefined : Math.max(0, deadline - performance.now()),
    progress: (done, total, text = "") => {
      const value = { attemptId, progress: done, message: escapeSurrogates(text) };
      const $typeName = "sidecall.v1.HostProgress";
      const known = total === undefined ? value : { ...value, total };
      send({ case: "progress", value: { $typeName, ...known } });
    },
    output: (text) => {
      const whole = escapeSurrogates(text);
      for (let start = 0; start < whole.length; start += OUTPUT_CHARACTERS) {
        const part = escapeSurrogates(whole.slice(start, start + OUTPUT_CHARACTERS));
        const $typeName = "sidecall.v1.HostPartialOutput";
        send({ case: "partialOutput", value: { $typeName, attemptId, text: part } });
      }
    },
    end: () => {
      isOver = true;
    },
  };
}
