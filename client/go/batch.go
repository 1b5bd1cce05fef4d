package sidecall

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"sidecall.dev/go/sidecallv1"
)

// BatchOptions is what may be said about a batch. Zero values mean the sidecar's defaults.
type BatchOptions struct {
	// Mode is Parallel or Sequential.
	Mode ExecutionMode
	// OnFailure is Continue or Stop.
	OnFailure FailurePolicy
	// MaxConcurrency is the most calls of the batch that run at a time.
	MaxConcurrency int
	// Timeout is the time for the whole batch, from receipt. The context's deadline applies as
	// well: whichever comes first. The sidecar answers shortly before, with the results so far.
	Timeout time.Duration
	// Context holds facts about the end user; tools and policies see them, the model does not.
	Context map[string]string
	// RequestID is a key under which the batch may be sent again without running a call twice;
	// a UUID, for example. All but the calls' timeouts must then be the same. Calls that have
	// started go on when the client cancels or loses its connection. A sidecar that is
	// restarted has forgotten it, unless its capabilities say durable_requests.
	RequestID string
	// SentToInstance says where a batch with the RequestID was sent before: Error.SentToInstance
	// of that send, or instance_id of the sidecar's capabilities, read before it. Another sidecar
	// that cannot know what has run then refuses, with ReasonRequestForgotten.
	SentToInstance string
	// SessionID names a session whose earlier results may be referenced, and which gets those
	// of this batch.
	SessionID string
	// Approvals are decisions, made by Approve and Reject, on calls of an earlier send of the
	// same calls; RequestID is that of its results.
	Approvals []*Approval
	// MaxResponseBytes bounds what the results may take together.
	MaxResponseBytes int64
	// DisableReferences passes argument strings as they are.
	DisableReferences bool
}

// BatchResults are the results of a batch.
type BatchResults struct {
	// Results has one result per call, in call order.
	Results []*ToolResult
	// RequestID is the key under which the batch may be sent again: that of the request, or one
	// that the sidecar made because a call waits for approval. Empty where there is none.
	RequestID string
	// Schedule explains how long the batch took.
	Schedule *Schedule
}

// check fails where a number cannot be told to the sidecar.
func (o *BatchOptions) check() error {
	if o.MaxConcurrency < 0 || o.MaxConcurrency > math.MaxInt32 {
		return fmt.Errorf("sidecall: MaxConcurrency must be from 0 to %d, not %d", math.MaxInt32, o.MaxConcurrency)
	}
	if o.MaxResponseBytes < 0 {
		return fmt.Errorf("sidecall: MaxResponseBytes must not be negative, but is %d", o.MaxResponseBytes)
	}
	if o.Timeout < 0 {
		return fmt.Errorf("sidecall: Timeout must not be negative, but is %v", o.Timeout)
	}
	return nil
}

func (o *BatchOptions) request(calls []*ToolCall) *sidecallv1.ExecuteBatchRequest {
	return &sidecallv1.ExecuteBatchRequest{
		Calls:             calls,
		Mode:              o.Mode,
		OnFailure:         o.OnFailure,
		MaxConcurrency:    int32(o.MaxConcurrency),
		Timeout:           durationOf(o.Timeout),
		RequestId:         o.RequestID,
		SentToInstance:    o.SentToInstance,
		SessionId:         o.SessionID,
		Context:           o.Context,
		MaxResponseBytes:  o.MaxResponseBytes,
		DisableReferences: o.DisableReferences,
		Approvals:         o.Approvals,
	}
}

func (o *BatchOptions) start() *sidecallv1.StreamStart {
	return &sidecallv1.StreamStart{
		Mode:              o.Mode,
		OnFailure:         o.OnFailure,
		MaxConcurrency:    int32(o.MaxConcurrency),
		Timeout:           durationOf(o.Timeout),
		RequestId:         o.RequestID,
		SentToInstance:    o.SentToInstance,
		SessionId:         o.SessionID,
		Context:           o.Context,
		MaxResponseBytes:  o.MaxResponseBytes,
		DisableReferences: o.DisableReferences,
		Approvals:         o.Approvals,
	}
}

func durationOf(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
