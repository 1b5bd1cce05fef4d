//! Tells events of chats.

use serde_json::{Value, json};
use sidecall::{
    chat::{ApprovalRequest, ChatEvent},
    v1::{Approval, Decision},
};

use crate::clients::{chat_error_of, result_of};

/// Tells an event.
pub fn event_of(event: &ChatEvent) -> Value {
    match event {
        ChatEvent::TurnStarted { turn } => json!({"event": "turn_started", "turn": turn}),
        ChatEvent::TextDelta { turn, text } => {
            json!({"event": "text_delta", "turn": turn, "text": text})
        }
        ChatEvent::RefusalDelta { turn, text } => {
            json!({"event": "refusal_delta", "turn": turn, "text": text})
        }
        ChatEvent::EarlyStartAbandoned { turn, reason } => {
            json!({"event": "early_start_abandoned", "turn": turn, "reason": reason})
        }
        ChatEvent::TurnFinished {
            turn,
            text,
            call_count,
            usage,
        } => json!({
            "event": "turn_finished",
            "turn": turn,
            "text": text,
            "call_count": call_count,
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
            },
        }),
        ChatEvent::ErrorOccurred { turn, error } => {
            json!({"event": "error_occurred", "turn": turn, "error": chat_error_of(error)})
        }
        ChatEvent::ApprovalRequested(request) => request_of(request),
        ChatEvent::ApprovalDecided {
            turn,
            index,
            approval,
        } => json!({
            "event": "approval_decided",
            "turn": turn,
            "index": index,
            "decision": decision_of(approval.as_ref()),
        }),
        other => call_event_of(other),
    }
}

fn call_event_of(event: &ChatEvent) -> Value {
    match event {
        ChatEvent::CallReady { turn, index, call } => json!({
            "event": "call_ready",
            "turn": turn,
            "index": index,
            "call": {"id": call.id, "name": call.name, "arguments": call.arguments},
        }),
        ChatEvent::CallQueued {
            turn,
            index,
            cause,
            waiting_for,
        } => json!({
            "event": "call_queued",
            "turn": turn,
            "index": index,
            "cause": cause.as_str_name(),
            "waiting_for": waiting_for,
        }),
        ChatEvent::CallStarted {
            turn,
            index,
            attempt,
        } => json!({"event": "call_started", "turn": turn, "index": index, "attempt": attempt}),
        ChatEvent::CallProgress {
            turn,
            index,
            progress,
            total,
            message,
        } => json!({
            "event": "call_progress",
            "turn": turn,
            "index": index,
            "progress": progress,
            "total": total,
            "message": message,
        }),
        ChatEvent::CallPartialOutput { turn, index, text } => {
            json!({"event": "call_partial_output", "turn": turn, "index": index, "text": text})
        }
        ChatEvent::CallFinished {
            turn,
            index,
            result,
        } => json!({
            "event": "call_finished",
            "turn": turn,
            "index": index,
            "result": result_of(result),
        }),
        _ => json!({"event": "unknown"}),
    }
}

fn request_of(request: &ApprovalRequest) -> Value {
    json!({
        "event": "approval_requested",
        "turn": request.turn,
        "index": request.index,
        "call_id": request.call_id,
        "tool_name": request.tool_name,
        "arguments": request.arguments,
    })
}

fn decision_of(approval: Option<&Approval>) -> &'static str {
    match approval.map(Approval::decision) {
        None => "open",
        Some(Decision::Approve) => "approve",
        Some(_) => "reject",
    }
}
