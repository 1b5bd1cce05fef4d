package main

import (
	"fmt"

	"sidecall.dev/go/chat"
	"sidecall.dev/go/sidecallv1"
)

func eventOf(event chat.Event) object {
	switch event := event.(type) {
	case chat.TurnStarted:
		return object{"event": "turn_started", "turn": event.Turn}
	case chat.TextDelta:
		return object{"event": "text_delta", "turn": event.Turn, "text": event.Text}
	case chat.RefusalDelta:
		return object{"event": "refusal_delta", "turn": event.Turn, "text": event.Text}
	case chat.EarlyStartAbandoned:
		return object{"event": "early_start_abandoned", "turn": event.Turn, "reason": event.Reason}
	case chat.TurnFinished:
		return object{
			"event": "turn_finished", "turn": event.Turn, "text": event.Text,
			"call_count": event.CallCount, "usage": usageOf(event.Usage),
		}
	case chat.ErrorOccurred:
		return object{"event": "error_occurred", "turn": event.Turn, "error": errorOf(event.Err)}
	}
	return callEventOf(event)
}

func callEventOf(event chat.Event) object {
	switch event := event.(type) {
	case chat.CallReady:
		call := object{
			"id": event.Call.GetId(), "name": event.Call.GetName(), "arguments": event.Call.GetArguments(),
		}
		return object{"event": "call_ready", "turn": event.Turn, "index": event.Index, "call": call}
	case chat.CallQueued:
		waiting := event.WaitingFor
		if waiting == nil {
			waiting = []int{}
		}
		return object{
			"event": "call_queued", "turn": event.Turn, "index": event.Index,
			"cause": event.Cause, "waiting_for": waiting,
		}
	case chat.CallStarted:
		return object{
			"event": "call_started", "turn": event.Turn, "index": event.Index, "attempt": event.Attempt,
		}
	case chat.CallProgress:
		return object{
			"event": "call_progress", "turn": event.Turn, "index": event.Index,
			"progress": event.Progress, "total": event.Total, "message": event.Message,
		}
	case chat.CallPartialOutput:
		return object{
			"event": "call_partial_output", "turn": event.Turn, "index": event.Index, "text": event.Text,
		}
	case chat.CallFinished:
		return object{
			"event": "call_finished", "turn": event.Turn, "index": event.Index,
			"result": resultOf(event.Result),
		}
	case chat.ApprovalRequested:
		return object{
			"event": "approval_requested", "turn": event.Turn, "index": event.Index,
			"call_id": event.CallID, "tool_name": event.ToolName, "arguments": event.Arguments,
		}
	case chat.ApprovalDecided:
		decision := "open"
		if event.Approval != nil {
			decision = "reject"
			if event.Approval.GetDecision() == sidecallv1.Decision_DECISION_APPROVE {
				decision = "approve"
			}
		}
		return object{
			"event": "approval_decided", "turn": event.Turn, "index": event.Index, "decision": decision,
		}
	}
	return object{"event": fmt.Sprintf("%T", event)}
}
