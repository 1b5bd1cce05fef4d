package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/openai/openai-go/v3/option"
	"sidecall.dev/go"
)

// API is an API of the provider.
type API string

const (
	// ChatCompletions is the Chat Completions API. The default.
	ChatCompletions API = "chat_completions"
	// Responses is the Responses API.
	Responses API = "responses"
)

const defaultMaxTurns = 10

// Options are choices of a [Loop]. Model is needed; other zero values mean the defaults.
type Options struct {
	// Model is the name of the model.
	Model string
	// API is the provider's API to speak: ChatCompletions or Responses.
	API API
	// Stream has the model's answers streamed.
	Stream bool
	// EarlyStart has each call sent when the model has finished that call. Only tools that are
	// read_only start before the model's turn is over. Queued, started, progress and partial
	// output events are reported with it only.
	EarlyStart bool
	// MaxTurns is the most answers of the model in one run; by default 10.
	MaxTurns int
	// OnEvent is told of each event, one at a time, by several goroutines. What it returns ends
	// the chat, as a HookError.
	OnEvent func(ctx context.Context, event Event) error
	// Approve is asked about each call that needs a human's approval, about several at once in
	// goroutines of their own. It returns what sidecall.Approve or sidecall.Reject makes of it;
	// nil leaves the question open. An error leaves its own call undecided, so that it does not
	// run; decisions on other calls take effect all the same, then the error ends the chat.
	// Without the hook the model is told that a human has to decide, and goes on.
	Approve func(ctx context.Context, request ApprovalRequested) (*sidecall.Approval, error)
	// ReferenceHint tells the model how calls refer to each other's results. The hint is sent
	// with each request and never kept in the history.
	ReferenceHint bool
	// WithoutAttachments keeps the images and files in results from the model: it reads the line
	// that stands for each, as a model without eyes must.
	WithoutAttachments bool
	// Tools names the tools to offer; nil means all that the caller may use.
	Tools []string
	// Context holds facts about the end user; tools and policies see them, the model does not.
	Context map[string]string
	// SessionID names a session that keeps the results of all turns, so that calls may refer to
	// those of earlier turns by their ids.
	SessionID string
	// Resend has a turn whose connection is lost sent again, under a request id, so that no call
	// is run twice: a sidecar that was restarted meanwhile and whose requests are not durable
	// refuses it, which ends the chat. Calls that have started then go on when the chat is
	// cancelled; without it they are cancelled.
	Resend bool
	// BatchTimeout is the time for the tool calls of one turn, from the end of the turn. It does
	// not run while humans decide, and begins anew after their decisions.
	BatchTimeout time.Duration
	// Batch has further options of each batch. RequestID, SentToInstance and Approvals belong to
	// one turn and must be empty.
	Batch sidecall.BatchOptions
	// Request has further members of each request to the model, as JSON; tools are added to
	// those of the sidecar. It must not hold model, messages, input, stream or n.
	Request map[string]any
	// RequestOptions are passed on to the openai-go library.
	RequestOptions []option.RequestOption
}

// check fills in defaults; it fails where a choice makes no sense.
func (o *Options) check() error {
	if o.API == "" {
		o.API = ChatCompletions
	}
	if o.MaxTurns == 0 {
		o.MaxTurns = defaultMaxTurns
	}
	if o.API != ChatCompletions && o.API != Responses {
		return fmt.Errorf("chat: API is ChatCompletions or Responses, not %q", o.API)
	}
	if o.Model == "" {
		return errors.New("chat: Model is needed")
	}
	if o.MaxTurns < 0 {
		return fmt.Errorf("chat: MaxTurns must be at least 1, not %d", o.MaxTurns)
	}
	if o.BatchTimeout < 0 {
		return fmt.Errorf("chat: BatchTimeout must be positive, not %v", o.BatchTimeout)
	}
	for _, name := range []string{"model", "messages", "input", "stream", "n"} {
		if _, has := o.Request[name]; has {
			return fmt.Errorf("chat: Request may not hold %s", name)
		}
	}
	if _, err := o.ownTools(); err != nil {
		return err
	}
	if o.Batch.RequestID != "" || o.Batch.SentToInstance != "" || o.Batch.Approvals != nil {
		return errors.New("chat: RequestID, SentToInstance and Approvals belong to one turn")
	}
	return nil
}

// ownTools returns the tools in Request.
func (o *Options) ownTools() ([]any, error) {
	text, err := json.Marshal(o.Request["tools"])
	if err != nil {
		return nil, fmt.Errorf("chat: the tools in Request: %w", err)
	}
	var tools []any
	if err := json.Unmarshal(text, &tools); err != nil {
		return nil, fmt.Errorf("chat: the tools in Request are no list: %w", err)
	}
	return tools, nil
}

func (o *Options) hint() string {
	switch {
	case !o.ReferenceHint:
		return ""
	case o.batch().SessionID != "":
		return SessionReferenceHint()
	default:
		return ReferenceHint
	}
}

// batch returns the options of each batch.
func (o *Options) batch() sidecall.BatchOptions {
	options := o.Batch
	if o.Context != nil {
		options.Context = o.Context
	}
	if o.SessionID != "" {
		options.SessionID = o.SessionID
	}
	return options
}

// Turn is one turn of the model and what its calls gave.
type Turn struct {
	// Text is what the model wrote.
	Text string
	// Calls are the calls as the sidecar was given them, those of a wrapper one by one; one that
	// the chat refused to run has no name.
	Calls []*sidecall.ToolCall
	// Results has one result per call; none where the turn's calls were not run.
	Results []*sidecall.ToolResult
	// Usage is the tokens that the turn took.
	Usage Usage
}

// Result is what a run came to.
type Result struct {
	// Text is the model's answer; empty where it gave none.
	Text string
	// Refusal is the model's refusal; empty where it did not refuse.
	Refusal string
	// Turns are the model's turns in this run.
	Turns []Turn
	// Usage is the tokens that the run took.
	Usage Usage
	// Stopped says why it stopped.
	Stopped StopReason
}
