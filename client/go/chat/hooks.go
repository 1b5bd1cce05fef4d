package chat

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"sidecall.dev/go"
)

// HookError is what a hook of the application returned. It ends the chat.
type HookError struct{ Err error }

// Error returns the hook's error.
func (e *HookError) Error() string { return fmt.Sprintf("chat: a hook failed: %v", e.Err) }

// Unwrap returns the hook's error.
func (e *HookError) Unwrap() error { return e.Err }

// emitter tells a hook of events, one at a time.
type emitter struct {
	hook    func(context.Context, Event) error
	mu      sync.Mutex
	telling atomic.Bool
	raised  error
}

func (e *emitter) emit(ctx context.Context, event Event) error {
	if e.hook == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.telling.Store(true)
	defer e.telling.Store(false)
	if err := e.hook(ctx, event); err != nil {
		e.raised = &HookError{err}
		return e.raised
	}
	return nil
}

// report tells the hook of an error, except of one that it returned itself.
func (e *emitter) report(ctx context.Context, turn int, err error) error {
	e.mu.Lock()
	own := e.raised != nil && errors.Is(err, e.raised)
	e.mu.Unlock()
	if own {
		return nil
	}
	return e.emit(ctx, ErrorOccurred{turn, err})
}

// questions are those about some calls of a turn, all asked at the same time.
type questions struct {
	hook      func(context.Context, ApprovalRequested) (*sidecall.Approval, error)
	emitter   *emitter
	mu        sync.Mutex
	approvals map[int]*sidecall.Approval
	errs      []error
}

// ask asks all of them and waits for the answers. It fails where an event's hook does before
// any was asked.
func (q *questions) ask(ctx context.Context, requests []ApprovalRequested) error {
	for _, request := range requests {
		if err := q.emitter.emit(ctx, request); err != nil {
			return err
		}
	}
	var asked sync.WaitGroup
	for _, request := range requests {
		asked.Go(func() { q.askOne(ctx, request) })
	}
	asked.Wait()
	return nil
}

func (q *questions) askOne(ctx context.Context, request ApprovalRequested) {
	approval, err := q.hook(ctx, request)
	if err == nil && approval != nil && approval.GetApprovalId() != request.ApprovalID {
		err = errors.New("an Approve hook decides on the call that it was asked about")
	}
	if err != nil {
		q.fail(&HookError{err})
		return
	}
	if approval != nil {
		q.mu.Lock()
		q.approvals[request.Index] = approval
		q.mu.Unlock()
	}
	if err := q.emitter.emit(ctx, ApprovalDecided{request.Turn, request.Index, approval}); err != nil {
		q.fail(err)
	}
}

func (q *questions) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.errs = append(q.errs, err)
}
