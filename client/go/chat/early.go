package chat

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"sidecall.dev/go"
	"sidecall.dev/go/sidecallv1"
)

// answerTime is how long a sidecar that serves takes at most for the results of calls that are
// cancelled.
const answerTime = 5 * time.Second

// earlyCalls are calls of one turn that are sent over StreamBatch before the turn is over. Its
// methods are called by one goroutine; another one reads events.
type earlyCalls struct {
	turn    int
	open    func(ctx context.Context) (*sidecall.BatchStream, error)
	emitter *emitter
	timeout time.Duration // For the calls from the seal; 0 for no bound.
	// holdUnstarted: results of calls that were not started are not reported, for a human's
	// decision may start them later.
	holdUnstarted bool

	stream  *sidecall.BatchStream
	cancel  context.CancelFunc // Ends the stream and what hooks are told of it.
	sent    []*sidecall.ToolCall
	done    chan struct{} // Closed when the reader has ended.
	readErr error         // Why it ended; set before done is closed.

	mu      sync.Mutex
	told    map[int]bool // Calls whose results were reported.
	refused map[int]refusedCall
	results map[int]*sidecall.ToolResult
	record  *turnRecord
	givenUp bool
	sealed  bool
}

// close ends the stream and waits for the reader.
func (e *earlyCalls) close() {
	if e.stream != nil {
		e.cancel()
		e.stream.Close()
		<-e.done
	}
}

// send sends the calls that the model has finished and that were not sent yet.
func (e *earlyCalls) send(ctx context.Context, calls *turnCalls) error {
	unsent := calls.batch[len(e.sent):]
	if e.isGivenUp() || len(unsent) == 0 {
		return nil
	}
	e.mu.Lock()
	maps.Copy(e.refused, calls.refused)
	e.mu.Unlock()
	err := e.sendAll(ctx, unsent)
	var failed *sidecall.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &failed):
		return e.abandon(ctx, failed.Error())
	case errors.Is(err, sidecall.ErrTurnEnded):
		return nil // The reader gave the turn up meanwhile.
	}
	return err
}

func (e *earlyCalls) sendAll(ctx context.Context, unsent []*sidecall.ToolCall) error {
	if e.stream == nil {
		streamCtx, cancel := context.WithCancel(ctx)
		stream, err := e.open(streamCtx)
		if err != nil {
			cancel()
			return err
		}
		e.stream, e.cancel, e.done = stream, cancel, make(chan struct{})
		go e.read(streamCtx)
	}
	for _, call := range unsent {
		e.sent = append(e.sent, call)
		if err := e.stream.Send(len(e.sent)-1, call); err != nil {
			return err
		}
	}
	return nil
}

func (e *earlyCalls) isGivenUp() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.givenUp
}

// abandon gives up what was sent, unless it was released; only tools that are read_only can have
// run.
func (e *earlyCalls) abandon(ctx context.Context, reason string) error {
	e.mu.Lock()
	before := e.givenUp || e.sealed
	e.givenUp = e.givenUp || !e.sealed
	e.mu.Unlock()
	if before {
		return nil
	}
	if e.stream != nil {
		e.stream.Abandon()
	}
	return e.emitter.emit(ctx, EarlyStartAbandoned{e.turn, reason})
}

// complete runs the turn to its end once all of its calls are known. Not ok: nothing has taken
// effect, and the calls are to be sent as one batch. It fails where the turn failed after the
// calls were released; without a request id they are never sent again, whatever the sidecar
// says.
func (e *earlyCalls) complete(ctx context.Context, calls *turnCalls, record *turnRecord) (ok bool, err error) {
	for i, call := range e.sent {
		if i >= len(calls.batch) || !proto.Equal(call, calls.batch[i]) {
			if err := e.abandon(ctx, "the model changed a call that had been sent"); err != nil {
				return false, err
			}
			break
		}
	}
	if len(e.sent) <= len(calls.batch) {
		if err := e.send(ctx, calls); err != nil {
			return false, err
		}
	}
	if e.stream == nil {
		return false, nil
	}
	select {
	case <-e.done:
		if e.readErr != nil {
			return false, e.readErr
		}
	default:
	}
	if !e.release(record) {
		return false, nil
	}
	if err := e.finish(ctx); err != nil {
		e.close() // No result comes after this.
		return false, err
	}
	return true, nil
}

// release has results go to the record from now on; not ok: the turn was given up.
func (e *earlyCalls) release(record *turnRecord) (ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.givenUp {
		return false
	}
	e.sealed, e.record = true, record
	for index, result := range e.results {
		record.addResult(index, result)
	}
	return true
}

func (e *earlyCalls) finish(ctx context.Context) error {
	if err := e.stream.Seal(); err != nil {
		return err
	}
	if err := e.wait(ctx); err != nil {
		return err
	}
	_, err := e.stream.Results()
	return err
}

func (e *earlyCalls) wait(ctx context.Context) error {
	var timeout <-chan time.Time
	if e.timeout > 0 {
		timer := time.NewTimer(e.timeout)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-e.done:
		return e.readErr
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout:
	}
	var canceller sync.WaitGroup
	canceller.Go(func() {
		for index := range e.sent {
			if e.stream.Cancel(index) != nil {
				return // The reader learns why.
			}
		}
	})
	defer canceller.Wait()
	if err := e.waitForAnswers(ctx); err != nil {
		e.stream.Close() // The canceller may still be sending.
		return err
	}
	return e.readErr
}

func (e *earlyCalls) waitForAnswers(ctx context.Context) error {
	ticker := time.NewTicker(answerTime)
	defer ticker.Stop()
	for {
		select {
		case <-e.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			// While a hook is told of an event, nobody hears of the next one.
			if !e.emitter.telling.Load() {
				return &sidecall.Error{
					Code:    codes.DeadlineExceeded,
					Message: "the sidecar did not answer when the time of its calls was over",
				}
			}
		}
	}
}

func (e *earlyCalls) read(ctx context.Context) {
	defer close(e.done)
	why := "the sidecar ended the turn before its seal"
	for event, err := range e.stream.Events() {
		if err == nil {
			err = e.take(ctx, event)
			if err == nil {
				continue
			}
			e.readErr = err
			return
		}
		if e.isSealed() || ctx.Err() != nil {
			e.readErr = err
			return
		}
		why = err.Error()
	}
	e.readErr = e.abandon(ctx, why)
}

func (e *earlyCalls) isSealed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sealed
}

// take keeps what an event tells and passes it on.
func (e *earlyCalls) take(ctx context.Context, event *sidecall.BatchEvent) error {
	translated := translate(e.turn, event)
	finished, isResult := translated.(CallFinished)
	e.mu.Lock()
	if isResult {
		finished.Result = settle(e.refused, finished.Index, finished.Result)
		translated = finished
		e.results[finished.Index] = finished.Result
		if e.record != nil {
			e.record.addResult(finished.Index, finished.Result)
		}
	}
	silent := e.givenUp || translated == nil
	e.mu.Unlock()
	if silent || isResult && e.holdUnstarted && notStarted(finished.Result) {
		return nil
	}
	if err := e.emitter.emit(ctx, translated); err != nil {
		return err
	}
	if isResult {
		e.mu.Lock()
		e.told[finished.Index] = true
		e.mu.Unlock()
	}
	return nil
}

func notStarted(result *sidecall.ToolResult) bool {
	return result.GetExecutionState() == sidecallv1.ExecutionState_EXECUTION_STATE_NOT_STARTED
}

func translate(turn int, event *sidecall.BatchEvent) Event {
	switch event := event.GetEvent().(type) {
	case *sidecallv1.BatchEvent_Queued:
		queued := CallQueued{Turn: turn, Index: int(event.Queued.GetIndex()), Cause: "BLOCK_CAUSE_UNSPECIFIED"}
		if name, known := sidecallv1.BlockCause_name[int32(event.Queued.GetCause())]; known {
			queued.Cause = name
		}
		for _, index := range event.Queued.GetWaitingFor() {
			queued.WaitingFor = append(queued.WaitingFor, int(index))
		}
		return queued
	case *sidecallv1.BatchEvent_Started:
		return CallStarted{turn, int(event.Started.GetIndex()), int(event.Started.GetAttempt())}
	case *sidecallv1.BatchEvent_Progress:
		report := event.Progress
		return CallProgress{turn, int(report.GetIndex()), report.GetProgress(), report.Total, report.GetMessage()}
	case *sidecallv1.BatchEvent_PartialOutput:
		return CallPartialOutput{turn, int(event.PartialOutput.GetIndex()), event.PartialOutput.GetText()}
	case *sidecallv1.BatchEvent_Result:
		return CallFinished{turn, int(event.Result.GetIndex()), event.Result.GetResult()}
	}
	return nil
}
