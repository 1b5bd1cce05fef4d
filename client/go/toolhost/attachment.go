package toolhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"sidecall.dev/go"
	"sidecall.dev/go/sidecallv1"
)

const (
	// attachTime is what a sidecar may take to accept a host.
	attachTime = 30 * time.Second
	// drainingTime is what the sidecar may take to say that no more calls come.
	drainingTime = time.Second
	// endTime is what the sidecar has to end a stream when the host closes.
	endTime = 5 * time.Second
)

type attachStream = grpc.BidiStreamingClient[sidecallv1.AttachRequest, sidecallv1.AttachResponse]

// attachment is one stream on which a host is attached, from its acceptance to its end.
type attachment struct {
	stream   attachStream
	cancel   context.CancelFunc
	calls    context.Context // What the contexts of its calls are made of.
	attached *sidecallv1.HostAttached
	maxBytes int64
	runner   *callRunner
	outbox   *outbox
	log      *slog.Logger
	silent   atomic.Bool

	draining chan struct{} // Closed when the sidecar has said that no more calls come.

	mu     sync.Mutex
	inHand map[int64]handed
	empty  *sync.Cond
	over   bool
	ended  chan struct{} // Closed when it is over.
	drains bool          // The host asked for it.
}

type handed struct {
	tool   string
	cancel context.CancelFunc
}

// attach attaches on a new stream. The end of ctx ends the attempt, not the attachment.
func (h *Host) attach(ctx context.Context) (*attachment, error) {
	lasting := context.WithoutCancel(ctx)
	streamCtx, cancel := context.WithCancel(lasting)
	stopWaiting := context.AfterFunc(ctx, cancel)
	defer stopWaiting()
	late := time.AfterFunc(attachTime, cancel)
	defer late.Stop()
	a := &attachment{
		cancel: cancel, calls: lasting, runner: h.runner, log: h.log,
		outbox: newOutbox(), inHand: map[int64]handed{},
		draining: make(chan struct{}), ended: make(chan struct{}),
	}
	a.empty = sync.NewCond(&a.mu)
	if err := a.open(streamCtx, h); err != nil {
		cancel()
		failure := sidecall.ErrorFrom(ctx, err)
		if ctx.Err() == nil && failure.Code == codes.Canceled {
			failure = &sidecall.Error{Code: codes.Unavailable, Message: fmt.Sprintf(
				"the sidecar did not answer within %v", attachTime)}
		}
		return nil, failure
	}
	return a, nil
}

func (a *attachment) open(ctx context.Context, h *Host) error {
	stream, err := h.service.Attach(ctx)
	if err != nil {
		return err
	}
	a.stream = stream
	offer := &sidecallv1.AttachRequest{Message: &sidecallv1.AttachRequest_Attach{Attach: h.offer}}
	if err := stream.Send(offer); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	answer, err := stream.Recv()
	if errors.Is(err, io.EOF) || err == nil && answer.GetAttached() == nil {
		return &sidecall.Error{
			Code: codes.Internal, Message: "the sidecar did not say that the host is attached",
		}
	}
	if err != nil {
		return err
	}
	a.attached = answer.GetAttached()
	a.maxBytes = h.offer.GetMaxMessageBytes()
	if theirs := a.attached.GetMaxMessageBytes(); theirs > 0 {
		a.maxBytes = min(a.maxBytes, theirs)
	}
	return nil
}

// serve runs calls until the stream ends; nil where that is in order.
func (a *attachment) serve() error {
	var writer sync.WaitGroup
	writer.Go(a.write)
	err := a.read()
	a.cancel()
	a.outbox.drop()
	writer.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	close(a.ended)
	for _, call := range a.inHand {
		call.cancel() // Nobody waits for its result any more.
	}
	clear(a.inHand)
	a.empty.Broadcast()
	return err
}

// write sends what there is to send, heartbeats where there is nothing, and half-closes.
func (a *attachment) write() {
	beat := a.attached.GetHeartbeatInterval().AsDuration()
	for {
		message, open := a.outbox.get(beat)
		if !open {
			_ = a.stream.CloseSend() // It never fails; who reads learns what ended the stream.
			return
		}
		if message == nil {
			message = &sidecallv1.AttachRequest{
				Message: &sidecallv1.AttachRequest_Heartbeat{Heartbeat: &sidecallv1.HostHeartbeat{}},
			}
		}
		if a.stream.Send(message) != nil {
			return // The stream has ended: who reads learns why.
		}
	}
}

// read handles messages until the stream ends; nil where that is in order.
func (a *attachment) read() error {
	silence := a.attached.GetSilenceTimeout().AsDuration()
	watchdog := time.AfterFunc(max(silence, time.Hour), func() {})
	if silence > 0 {
		watchdog.Stop()
		watchdog = time.AfterFunc(silence, func() { a.silent.Store(true); a.cancel() })
	}
	defer watchdog.Stop()
	for {
		message, err := a.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && a.silent.Load() {
			return &sidecall.Error{Code: codes.Unavailable, Message: fmt.Sprintf(
				"nothing was heard of the sidecar for %v", silence)}
		}
		if err != nil {
			return sidecall.ErrorFrom(a.calls, err)
		}
		if silence > 0 {
			watchdog.Reset(silence)
		}
		a.handle(message)
	}
}

func (a *attachment) handle(message *sidecallv1.AttachResponse) {
	switch message := message.GetMessage().(type) {
	case *sidecallv1.AttachResponse_Call:
		a.start(message.Call)
	case *sidecallv1.AttachResponse_Cancel:
		a.mu.Lock()
		defer a.mu.Unlock()
		if call, has := a.inHand[message.Cancel.GetAttemptId()]; has {
			call.cancel()
		}
	case *sidecallv1.AttachResponse_Draining:
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.drains {
			a.log.Info("the sidecar shuts down; calls in hand are finished")
		}
		if !a.isDraining() {
			close(a.draining)
		}
		a.closeIfDrained()
	}
}

func (a *attachment) start(call *sidecallv1.HostCall) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := call.GetAttemptId()
	if _, has := a.inHand[id]; has {
		a.log.Error("the sidecar sent an attempt twice", "attempt_id", id)
		return
	}
	if a.outbox.isClosed() {
		a.log.Warn("a call came after the drain and is not run", "tool", call.GetName())
		return
	}
	a.inHand[id] = handed{call.GetName(), a.runner.start(a.calls, call, a.outbox.report, a.end)}
}

// end takes the result of a call.
func (a *attachment) end(result *sidecallv1.HostResult) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, has := a.inHand[result.GetAttemptId()]; has {
		a.answer(result)
	}
}

// answer sends a result; a.mu is held.
func (a *attachment) answer(result *sidecallv1.HostResult) {
	delete(a.inHand, result.GetAttemptId())
	a.outbox.put(fitting(result, a.maxBytes))
	if len(a.inHand) == 0 {
		a.empty.Broadcast()
		a.closeIfDrained()
	}
}

// closeIfDrained half-closes once all is answered; a.mu is held.
func (a *attachment) closeIfDrained() {
	if len(a.inHand) == 0 && a.isDraining() {
		a.outbox.close()
	}
}

func (a *attachment) isDraining() bool {
	select {
	case <-a.draining:
		return true
	default:
		return false
	}
}

// drain asks for no more calls, waits for those in hand and half-closes then. Calls that have not
// ended in time are answered as abandoned.
func (a *attachment) drain(timeout time.Duration) {
	a.mu.Lock()
	a.drains = true
	a.mu.Unlock()
	a.outbox.put(&sidecallv1.AttachRequest{
		Message: &sidecallv1.AttachRequest_Drain{Drain: &sidecallv1.HostDrain{}},
	})
	late := time.AfterFunc(timeout, a.abandon)
	defer late.Stop()
	unanswered := time.NewTimer(min(drainingTime, timeout))
	defer unanswered.Stop()
	select {
	case <-a.draining:
	case <-a.ended:
	case <-unanswered.C:
	}
	a.mu.Lock()
	for len(a.inHand) > 0 && !a.over {
		a.empty.Wait()
	}
	over := a.over
	a.mu.Unlock()
	a.outbox.close()
	if !over {
		time.AfterFunc(endTime, a.cancel)
	}
}

func (a *attachment) abandon() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, call := range a.inHand {
		a.log.Warn("a function that still runs is abandoned", "tool", call.tool)
		call.cancel()
		result := abandoned()
		result.AttemptId = id
		a.answer(result)
	}
}
