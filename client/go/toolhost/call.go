package toolhost

import (
	"context"

	"sidecall.dev/go/sidecallv1"
)

const maxOutputBytes = 256 << 10

type callKey struct{}

// Call is what a function can ask and tell about the call that it runs for; see [CallFrom].
type Call struct {
	// Tool is the name under which the tool was called.
	Tool string
	// ID is the id that the model's provider gave the call; it may be empty.
	ID string
	// Attempt is the number of the attempt, from 1.
	Attempt int
	// Context holds facts about the end user, as the application sent them.
	Context map[string]string
	// IdempotencyKey is for the function to pass on; empty without.
	IdempotencyKey string
	// TraceParent and TraceState are the trace that the call belongs to (W3C Trace Context).
	// Sidecall clients pass it on by themselves where they are given the function's context.
	TraceParent, TraceState string

	report func(*sidecallv1.AttachRequest)
	id     int64
}

// CallFrom returns the call that a function runs for. In a context that no host made it returns
// an empty one, whose reports go nowhere.
func CallFrom(ctx context.Context) Call {
	call, _ := ctx.Value(callKey{}).(Call)
	return call
}

// Progress reports progress to whoever watches. done and total are in the tool's own unit; a
// total of 0 means that it is not known.
func (c Call) Progress(done, total float64, message string) {
	if c.report == nil {
		return
	}
	progress := &sidecallv1.HostProgress{AttemptId: c.id, Progress: done, Message: validText(message)}
	if total != 0 {
		progress.Total = &total
	}
	c.report(&sidecallv1.AttachRequest{Message: &sidecallv1.AttachRequest_Progress{Progress: progress}})
}

// Output shows part of the output to whoever watches. The result is what the function returns.
func (c Call) Output(text string) {
	if c.report == nil {
		return
	}
	for runes := []rune(validText(text)); len(runes) > 0; {
		size := min(len(runes), maxOutputBytes/4)
		output := &sidecallv1.HostPartialOutput{AttemptId: c.id, Text: string(runes[:size])}
		c.report(&sidecallv1.AttachRequest{
			Message: &sidecallv1.AttachRequest_PartialOutput{PartialOutput: output},
		})
		runes = runes[size:]
	}
}
