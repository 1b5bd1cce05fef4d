package sidecall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"sidecall.dev/go/sidecallv1"
)

// ErrTurnEnded is returned for what comes too late: the turn is sealed, abandoned or over, or
// the index was sent before.
var ErrTurnEnded = errors.New("sidecall: the turn takes no such message any more")

type batchStream = grpc.BidiStreamingClient[sidecallv1.StreamBatchRequest, sidecallv1.StreamBatchResponse]

// BatchStream is one turn whose calls are sent while the model is still producing them. Close
// it. Its methods may be called by several goroutines; events have one consumer: either
// [BatchStream.Events] or [BatchStream.Results], or first one and then the other.
type BatchStream struct {
	stream         batchStream
	ctx            context.Context // That of the RPC.
	cancel         context.CancelFunc
	requestID      string
	sentToInstance string

	sending    sync.Mutex
	sent       map[int]bool
	sealed     bool
	halfClosed bool

	receiving sync.Mutex
	pending   []*BatchEvent
	ended     error // Why nothing comes any more; io.EOF where all is well.

	mu      sync.Mutex
	results map[int]*ToolResult
	summary *BatchSummary
}

// StreamBatch opens a turn whose calls are sent one by one and waits until the sidecar has
// accepted it. options may be nil. The context ends the turn, also after StreamBatch has
// returned.
//
// It fails with an [*Error], or another error where an option makes no sense.
func (c *Client) StreamBatch(ctx context.Context, options *BatchOptions) (*BatchStream, error) {
	if options == nil {
		options = &BatchOptions{}
	}
	if err := options.check(); err != nil {
		return nil, err
	}
	s := &BatchStream{
		requestID:      options.RequestID,
		sentToInstance: options.SentToInstance,
		sent:           map[int]bool{},
		results:        map[int]*ToolResult{},
	}
	if s.requestID != "" && s.sentToInstance == "" {
		var err error
		once := 0
		if s.sentToInstance, err = c.findInstance(ctx, newAttempts(&once)); err != nil {
			return nil, err
		}
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if err := s.open(c, options.start()); err != nil {
		s.cancel()
		// No call was sent now, whatever the reason.
		failure := ErrorFrom(ctx, err)
		failure.NotStarted = options.SentToInstance == ""
		failure.SentToInstance = options.SentToInstance
		return nil, failure
	}
	return s, nil
}

func (s *BatchStream) open(c *Client, start *sidecallv1.StreamStart) error {
	stream, err := c.service.StreamBatch(s.ctx)
	if err != nil {
		return err
	}
	s.stream = stream
	message := &sidecallv1.StreamBatchRequest_Start{Start: start}
	if err := stream.Send(&sidecallv1.StreamBatchRequest{Message: message}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return &Error{Code: codes.Internal, Message: "the sidecar ended the turn before it began"}
	}
	s.pending = first.GetEvents()
	return err
}

// Close ends the RPC; a turn that is not over is cancelled. It may be called again.
func (s *BatchStream) Close() { s.cancel() }

// RequestID returns the key under which the turn's calls may be sent again, with
// [Client.ExecuteBatch]. Once the turn is over it may be one that the sidecar made because a
// call waits for approval. Empty where there is none.
func (s *BatchStream) RequestID() string {
	if summary := s.Summary(); summary != nil {
		return summary.GetRequestId()
	}
	return s.requestID
}

// SentToInstance returns where the turn was first sent, for [BatchOptions]. Empty where that is
// not known, or the turn has no request id of its own: then a lost turn must not be sent again.
func (s *BatchStream) SentToInstance() string { return s.sentToInstance }

// Summary returns the turn's summary; nil before it is over.
func (s *BatchStream) Summary() *BatchSummary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.summary
}

// Send sends a call that the model has finished. index is its position in the turn, counted
// from 0. It fails with an [*Error] or [ErrTurnEnded].
func (s *BatchStream) Send(index int, call *ToolCall) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.sent[index] || s.sealed || s.halfClosed {
		return fmt.Errorf("call %d: %w", index, ErrTurnEnded)
	}
	s.sent[index] = true
	message := &sidecallv1.StreamCall{Index: int32(index), Call: call}
	return s.write(&sidecallv1.StreamBatchRequest{
		Message: &sidecallv1.StreamBatchRequest_Call{Call: message},
	})
}

// Seal ends the turn: calls that are held may start. It fails with an [*Error] or
// [ErrTurnEnded].
func (s *BatchStream) Seal() error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.sealed || s.halfClosed {
		return ErrTurnEnded
	}
	s.sealed = true
	message := &sidecallv1.StreamSeal{CallCount: int32(len(s.sent))}
	return s.write(&sidecallv1.StreamBatchRequest{
		Message: &sidecallv1.StreamBatchRequest_Seal{Seal: message},
	})
}

// Cancel cancels one call. One that is already final is left as it is. It fails with an
// [*Error], or [ErrTurnEnded] where the turn is abandoned.
func (s *BatchStream) Cancel(index int) error {
	s.mu.Lock()
	final := s.summary != nil || s.results[index] != nil
	s.mu.Unlock()
	if final {
		return nil
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.halfClosed {
		return ErrTurnEnded
	}
	message := &sidecallv1.StreamCancel{Index: int32(index)}
	return s.write(&sidecallv1.StreamBatchRequest{
		Message: &sidecallv1.StreamBatchRequest_Cancel{Cancel: message},
	})
}

// Abandon gives the unsealed turn up: calls that are held are never started.
func (s *BatchStream) Abandon() {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.halfClose()
}

// Events yields what happens in the turn until it is over. Breaking off is allowed; the next
// Events, or Results, goes on. The error is an [*Error], and the last thing yielded.
func (s *BatchStream) Events() iter.Seq2[*BatchEvent, error] {
	return func(yield func(*BatchEvent, error) bool) {
		for {
			event, err := s.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Results waits for the turn to end and returns its results, ordered by index. It fails with an
// [*Error], also where a call that was sent has no result.
func (s *BatchStream) Results() (*BatchResults, error) {
	for _, err := range s.Events() {
		if err != nil {
			return nil, err
		}
	}
	s.sending.Lock()
	sent := slices.Sorted(maps.Keys(s.sent))
	s.sending.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := slices.DeleteFunc(sent, func(index int) bool { return s.results[index] != nil })
	if len(missing) > 0 {
		return nil, &Error{Code: codes.Internal, Message: fmt.Sprintf(
			"the turn ended without results of the calls %v", missing)}
	}
	answered := &BatchResults{RequestID: s.requestID, Schedule: s.summary.GetSchedule()}
	if s.summary != nil {
		answered.RequestID = s.summary.GetRequestId()
	}
	for _, index := range slices.Sorted(maps.Keys(s.results)) {
		answered.Results = append(answered.Results, s.results[index])
	}
	return answered, nil
}

// next returns the next event; io.EOF after the last.
func (s *BatchStream) next() (*BatchEvent, error) {
	s.receiving.Lock()
	for len(s.pending) == 0 {
		if err := s.receive(); err != nil {
			s.receiving.Unlock()
			return nil, err
		}
	}
	event := s.pending[0]
	s.pending = s.pending[1:]
	s.receiving.Unlock()
	switch {
	case event.GetResult() != nil:
		s.mu.Lock()
		s.results[int(event.GetResult().GetIndex())] = event.GetResult().GetResult()
		s.mu.Unlock()
	case event.GetSummary() != nil:
		s.mu.Lock()
		s.summary = event.GetSummary()
		s.mu.Unlock()
		// The sidecar waits for it, so that what is sent until now does not cross the end of the
		// RPC.
		s.Abandon()
	}
	return event, nil
}

// receive reads one message; s.receiving is held.
func (s *BatchStream) receive() error {
	if s.ended != nil {
		return s.ended
	}
	response, err := s.stream.Recv()
	switch {
	case err == nil:
		s.pending = append(s.pending, response.GetEvents()...)
		return nil
	case errors.Is(err, io.EOF) || s.Summary() != nil: // All has been said.
		s.ended = io.EOF
	default:
		s.ended = s.failure(err)
	}
	return s.ended
}

// write sends a message; s.sending is held.
func (s *BatchStream) write(message *sidecallv1.StreamBatchRequest) error {
	err := s.stream.Send(message)
	if err == nil {
		return nil
	}
	if !errors.Is(err, io.EOF) {
		return s.failure(err)
	}
	// The RPC is over; why is known after all that was received.
	s.receiving.Lock()
	defer s.receiving.Unlock()
	for s.receive() == nil {
		continue
	}
	if errors.Is(s.ended, io.EOF) {
		return s.failure(&Error{Code: codes.FailedPrecondition, Message: "the turn is already over"})
	}
	return s.ended
}

// failure translates what ended an accepted turn: its calls may have run, whatever the reason.
func (s *BatchStream) failure(err error) *Error {
	failure := ErrorFrom(s.ctx, err)
	failure.NotStarted = false
	failure.SentToInstance = s.sentToInstance
	return failure
}

// halfClose says that nothing more is sent; s.sending is held.
func (s *BatchStream) halfClose() {
	if !s.halfClosed {
		s.halfClosed = true
		_ = s.stream.CloseSend() // It never fails; what ended the RPC is told where it is read.
	}
}
