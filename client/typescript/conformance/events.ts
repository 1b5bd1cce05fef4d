/** Tells events of chats. */

import type { ChatEvent } from "sidecall/chat";
import { Decision } from "sidecall/v1";
import { errorOf, type Json, resultOf } from "./protocol.js";

/** Tells an event. */
export function eventOf(event: ChatEvent): Json {
  return { event: event.type, turn: event.turn, ...membersOf(event) };
}

function membersOf(event: ChatEvent): Json {
  switch (event.type) {
    case "turn_started":
      return {};
    case "text_delta":
    case "refusal_delta":
      return { text: event.text };
    case "call_ready":
      return { index: event.index, call: event.call };
    case "call_queued": {
      const cause = `BLOCK_CAUSE_${event.cause}`;
      return { index: event.index, cause, waiting_for: event.waitingFor };
    }
    case "call_started":
      return { index: event.index, attempt: event.attempt };
    case "call_progress": {
      const { index, progress, total, message } = event;
      return { index, progress, total, message };
    }
    case "call_partial_output":
      return { index: event.index, text: event.text };
    case "call_finished":
      return { index: event.index, result: resultOf(event.result) };
    case "approval_requested": {
      const { index, callId, toolName, arguments: given } = event;
      return { index, call_id: callId, tool_name: toolName, arguments: given };
    }
    case "approval_decided": {
      const decision = event.approval?.decision === Decision.APPROVE ? "approve" : "reject";
      return { index: event.index, decision: event.approval ? decision : "open" };
    }
    case "early_start_abandoned":
      return { reason: event.reason };
    case "turn_finished": {
      const { inputTokens, outputTokens } = event.usage;
      const usage = { input_tokens: inputTokens, output_tokens: outputTokens };
      return { text: event.text, call_count: event.callCount, usage };
    }
    case "error_occurred":
      return { error: errorOf(event.error) };
  }
}
