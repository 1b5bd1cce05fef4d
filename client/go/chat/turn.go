package chat

// Usage counts tokens.
type Usage struct {
	// InputTokens were read by the model.
	InputTokens int64
	// OutputTokens were written by the model.
	OutputTokens int64
}

// TotalTokens returns all tokens.
func (u Usage) TotalTokens() int64 { return u.InputTokens + u.OutputTokens }

func (u Usage) plus(other Usage) Usage {
	return Usage{u.InputTokens + other.InputTokens, u.OutputTokens + other.OutputTokens}
}

// StopReason says why a chat, or a turn of the model, ended.
type StopReason string

const (
	// Completed is the usual end; of a turn also one in tool calls.
	Completed StopReason = "completed"
	// Length means that the answer was cut off at the output limit.
	Length StopReason = "length"
	// ContentFilter means that a filter of the provider stopped the answer.
	ContentFilter StopReason = "content_filter"
	// Refusal means that the model refused.
	Refusal StopReason = "refusal"
	// MaxTurns means that the run had no turn left.
	MaxTurns StopReason = "max_turns"
)

// modelCall is a call as the model made it.
type modelCall struct {
	id        string // May be empty or repeated.
	name      string
	arguments string
	// custom marks calls of other tools than functions, which cannot be run here.
	custom bool
}

// modelTurn is what a model produced in one turn.
type modelTurn struct {
	text    string
	refusal string
	calls   []modelCall
	end     StopReason
	usage   Usage
	items   []Item // Of the history, without answers to the calls.
}

// A streamPart is a textPart, a callDone or a callReopened.
type streamPart interface{ isStreamPart() }

type textPart struct {
	text      string
	isRefusal bool
}

// callDone: the model has finished a call, although its turn goes on.
type callDone struct{ call modelCall }

// callReopened: more of a call arrived after it had been reported as done.
type callReopened struct{}

func (textPart) isStreamPart()     {}
func (callDone) isStreamPart()     {}
func (callReopened) isStreamPart() {}
