package chat

import "sidecall.dev/go"

// Event is something that happened in a chat: one of the types below. Turn is the number of the
// model's turn, counted from 1; Index the position of a call among those of its turn, from 0.
type Event interface{ isEvent() }

type (
	// TurnStarted says that the model is about to be asked.
	TurnStarted struct{ Turn int }

	// TextDelta is text that the model wrote; without streaming, all of it at once.
	TextDelta struct {
		Turn int
		Text string
	}

	// RefusalDelta is a part of a refusal that the model wrote.
	RefusalDelta struct {
		Turn int
		Text string
	}

	// CallReady says that the model has finished a call. Call is as the sidecar is given it;
	// one that the chat refuses to run has no name.
	CallReady struct {
		Turn, Index int
		Call        *sidecall.ToolCall
	}

	// CallQueued says that a call waits. Reported with early start only.
	CallQueued struct {
		Turn, Index int
		// Cause is the name of the contract's BlockCause, such as "BLOCK_CAUSE_REFERENCE".
		Cause string
		// WaitingFor are the calls that it depends on and that are not final.
		WaitingFor []int
	}

	// CallStarted says that an attempt of a call was started; attempts count from 1. Reported
	// with early start only.
	CallStarted struct{ Turn, Index, Attempt int }

	// CallProgress is a report of a running tool. Reported with early start only.
	CallProgress struct {
		Turn, Index int
		// Progress is the work done so far, in the tool's own unit.
		Progress float64
		// Total is all of the work; nil where the tool does not know it.
		Total *float64
		// Message says what the tool is doing.
		Message string
	}

	// CallPartialOutput is part of a running tool's output. Reported with early start only.
	CallPartialOutput struct {
		Turn, Index int
		Text        string
	}

	// CallFinished says that a call has its result. Where the chat has an Approve hook, calls
	// that were not started are reported after the decisions, which may start them. A call whose
	// end was unknown is reported again where the turn was sent again and told it.
	CallFinished struct {
		Turn, Index int
		Result      *sidecall.ToolResult
	}

	// ApprovalRequested says that a call waits for a human; the Approve hook is asked next.
	ApprovalRequested struct {
		Turn, Index int
		CallID      string
		// ToolName is the name of the tool, as the sidecar knows it.
		ToolName string
		// Arguments is the JSON text of what the call would run with: references resolved,
		// defaults applied.
		Arguments string
		// ApprovalID is what the decision is made under, see sidecall.Approve.
		ApprovalID string
		// RequestID is what the turn's calls are sent again under with a decision that comes
		// later; see sidecall.BatchOptions.
		RequestID string
	}

	// ApprovalDecided says that a human was asked about a call. The decision takes effect once
	// all have answered; it is nil where the question was left open.
	ApprovalDecided struct {
		Turn, Index int
		Approval    *sidecall.Approval
	}

	// EarlyStartAbandoned says that calls that were sent early are void; the turn is sent again
	// as one batch.
	EarlyStartAbandoned struct {
		Turn   int
		Reason string
	}

	// TurnFinished says that the model's turn is over and each of its calls is answered.
	TurnFinished struct {
		Turn int
		// Text is what the model wrote in the turn.
		Text string
		// CallCount is how many calls it made.
		CallCount int
		Usage     Usage
	}

	// ErrorOccurred says that the chat ends with an error, which Run returns next.
	ErrorOccurred struct {
		Turn int
		Err  error
	}
)

func (TurnStarted) isEvent()         {}
func (TextDelta) isEvent()           {}
func (RefusalDelta) isEvent()        {}
func (CallReady) isEvent()           {}
func (CallQueued) isEvent()          {}
func (CallStarted) isEvent()         {}
func (CallProgress) isEvent()        {}
func (CallPartialOutput) isEvent()   {}
func (CallFinished) isEvent()        {}
func (ApprovalRequested) isEvent()   {}
func (ApprovalDecided) isEvent()     {}
func (EarlyStartAbandoned) isEvent() {}
func (TurnFinished) isEvent()        {}
func (ErrorOccurred) isEvent()       {}
