package toolhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"sidecall.dev/go"
	"sidecall.dev/go/sidecallv1"
)

// callRunner runs calls, at most so many at a time. Calls outlast the stream that brought them
// where their functions do not end when they are told to: they keep their slots, so that a host
// never runs more than it says.
type callRunner struct {
	tools map[string]*Tool
	slots chan struct{}
	log   *slog.Logger

	mu      sync.Mutex
	running map[string]int // How many calls of a tool.
	all     sync.WaitGroup
}

func newCallRunner(tools map[string]*Tool, slots int, log *slog.Logger) *callRunner {
	return &callRunner{
		tools: tools, slots: make(chan struct{}, slots), log: log, running: map[string]int{},
	}
}

// start runs a call in a goroutine of its own. done is given its result, once.
func (r *callRunner) start(
	base context.Context, message *sidecallv1.HostCall,
	report func(*sidecallv1.AttachRequest), done func(*sidecallv1.HostResult),
) context.CancelFunc {
	ctx, cancel := contextOf(base, message, report)
	r.count(message.GetName(), 1)
	r.all.Go(func() {
		defer r.count(message.GetName(), -1)
		defer cancel()
		result := r.run(ctx, message)
		result.AttemptId = message.GetAttemptId()
		done(result)
	})
	return cancel
}

func contextOf(
	base context.Context, message *sidecallv1.HostCall, report func(*sidecallv1.AttachRequest),
) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(base)
	if message.GetTimeout() != nil {
		var expire context.CancelFunc
		ctx, expire = context.WithTimeout(ctx, message.GetTimeout().AsDuration())
		cancel = both(expire, cancel)
	}
	ctx = sidecall.WithTraceContext(ctx, message.GetTraceparent(), message.GetTracestate())
	return context.WithValue(ctx, callKey{}, Call{
		Tool:           message.GetName(),
		ID:             message.GetCallId(),
		Attempt:        int(message.GetAttempt()),
		Context:        message.GetContext(),
		IdempotencyKey: message.GetIdempotencyKey(),
		TraceParent:    message.GetTraceparent(),
		TraceState:     message.GetTracestate(),
		report:         report,
		id:             message.GetAttemptId(),
	}), cancel
}

func both(first, second context.CancelFunc) context.CancelFunc {
	return func() { first(); second() }
}

func (r *callRunner) run(ctx context.Context, message *sidecallv1.HostCall) *sidecallv1.HostResult {
	tool := r.tools[message.GetName()]
	if tool == nil {
		return failed(codes.NotFound, fmt.Sprintf("There is no tool '%s' here.", message.GetName()), notStarted)
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return givenUp(ctx, notStarted)
	}
	if ctx.Err() != nil {
		return givenUp(ctx, notStarted)
	}
	value, err := r.invoke(ctx, tool, message.GetArguments())
	if err != nil && ctx.Err() != nil && endedBy(ctx, err) {
		return givenUp(ctx, unknown)
	}
	return resultOf(r.log, tool.Name(), value, err)
}

// endedBy tells whether an error is no more than that of a context.
func endedBy(ctx context.Context, err error) bool {
	var told *ToolError
	return !errors.As(err, &told) &&
		(errors.Is(err, ctx.Err()) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

func (r *callRunner) invoke(ctx context.Context, tool *Tool, arguments string) (value any, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
	}()
	return tool.invoke(ctx, arguments)
}

func (r *callRunner) count(tool string, change int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[tool] += change
	if r.running[tool] == 0 {
		delete(r.running, tool)
	}
}

// wait waits until no function runs; it returns the names of those that still do when the time
// is over.
func (r *callRunner) wait(timeout time.Duration) []string {
	ended := make(chan struct{})
	go func() { r.all.Wait(); close(ended) }()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.running))
}
