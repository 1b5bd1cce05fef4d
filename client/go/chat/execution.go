package chat

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"sidecall.dev/go"
	"sidecall.dev/go/sidecallv1"
)

// newRequestID makes a request id.
func newRequestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // It never fails.
	return hex.EncodeToString(id[:])
}

// turnExecution runs the calls of one turn, again after decisions and lost connections, and
// fills the turn's record with their results.
type turnExecution struct {
	turn      int
	calls     *turnCalls
	record    *turnRecord
	options   *Options
	sidecar   *sidecall.Client
	emitter   *emitter
	requestID string
	told      map[int]bool
}

// sending is what is said about one send of the calls.
type sending struct {
	requestID      string
	sentToInstance string
	approvals      []*sidecall.Approval
	timeout        time.Duration // 0 for no bound.
}

// run runs the calls to their ends. early is nil where there was no early start.
func (x *turnExecution) run(ctx context.Context, early *earlyCalls) error {
	complete := false
	if early != nil {
		var err error
		if complete, err = x.complete(ctx, early); err != nil {
			return err
		}
	}
	if !complete {
		first := sending{timeout: x.options.BatchTimeout}
		if x.options.Resend {
			first.requestID = newRequestID()
		}
		if err := x.send(ctx, first); err != nil {
			return err
		}
	}
	failures, err := x.decide(ctx)
	if err != nil {
		return err
	}
	if err := x.tell(ctx, slices.Collect(maps.Keys(x.record.known()))); err != nil {
		return err
	}
	return errors.Join(failures...)
}

// complete ends an early start; ok where all calls have their results.
func (x *turnExecution) complete(ctx context.Context, early *earlyCalls) (ok bool, err error) {
	begun := time.Now()
	ok, err = early.complete(ctx, x.calls, x.record)
	if err == nil {
		if ok {
			x.told, x.requestID = early.told, early.stream.RequestID()
		}
		return ok, nil
	}
	// Nothing of an unsealed turn has taken effect: it is sent as a new batch. This one may have,
	// so it is sent again only where the sidecar can tell.
	failed := failureOf(ctx, err)
	if failed == nil || !failed.IsTransient() || !early.isSealed() || early.stream.SentToInstance() == "" {
		return false, err
	}
	again := sending{requestID: early.stream.RequestID(), sentToInstance: early.stream.SentToInstance()}
	if x.options.BatchTimeout > 0 {
		again.timeout = x.options.BatchTimeout - time.Since(begun)
		if again.timeout <= 0 {
			return false, err
		}
	}
	x.told = early.told
	return true, x.send(ctx, again)
}

// failureOf returns the failed RPC that an error is; nil where it is none, or the caller ended
// it.
func failureOf(ctx context.Context, err error) *sidecall.Error {
	var hook *HookError
	var failed *sidecall.Error
	if ctx.Err() != nil || errors.As(err, &hook) || !errors.As(err, &failed) {
		return nil
	}
	return failed
}

func (x *turnExecution) send(ctx context.Context, s sending) error {
	options := x.options.batch()
	options.RequestID, options.SentToInstance, options.Approvals = s.requestID, s.sentToInstance, s.approvals
	if s.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeout)
		defer cancel()
	}
	answered, err := x.sidecar.ExecuteBatch(ctx, x.calls.batch, &options)
	if err != nil {
		return err
	}
	x.requestID = answered.RequestID
	x.adopt(answered.Results)
	return nil
}

func (x *turnExecution) adopt(results []*sidecall.ToolResult) {
	before := x.record.known()
	for index, result := range results {
		if known := before[index]; known != nil && !notStarted(known) {
			if sidecall.ReasonOf(result) == sidecall.ReasonOutcomeUnknown {
				continue // The first send said more about it.
			}
			if known.GetExecutionState() != result.GetExecutionState() {
				delete(x.told, index)
			}
		}
		x.record.addResult(index, settle(x.calls.refused, index, result))
	}
}

// decide has humans decide for as long as calls wait for them; it returns what the hook
// returned.
func (x *turnExecution) decide(ctx context.Context) (failures []error, err error) {
	asked := map[string]bool{}
	// Each round decides on a call for good, so there are no more rounds than calls.
	for range x.calls.batch {
		requests := x.pending(asked)
		if x.options.Approve == nil || len(requests) == 0 || x.requestID == "" {
			break
		}
		if err := x.tell(ctx, x.started()); err != nil {
			return nil, err
		}
		for _, request := range requests {
			asked[request.ApprovalID] = true
		}
		q := &questions{hook: x.options.Approve, emitter: x.emitter, approvals: map[int]*sidecall.Approval{}}
		if err := q.ask(ctx, requests); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err() // Who cancels while humans decide wants nothing to run.
		}
		if len(q.approvals) > 0 {
			if err := x.sendDecisions(ctx, q.approvals); err != nil {
				return nil, err
			}
		}
		if len(q.errs) > 0 || len(q.approvals) == 0 {
			return q.errs, nil
		}
	}
	return nil, nil
}

// pending returns the questions about calls that wait for a human and were not asked about.
func (x *turnExecution) pending(asked map[string]bool) []ApprovalRequested {
	var requests []ApprovalRequested
	results := x.record.known()
	for _, index := range slices.Sorted(maps.Keys(results)) {
		result := results[index]
		if !awaitsApproval(result) || asked[result.GetApprovalId()] {
			continue
		}
		requests = append(requests, ApprovalRequested{
			Turn:       x.turn,
			Index:      index,
			CallID:     result.GetCallId(),
			ToolName:   result.GetName(),
			Arguments:  result.GetApprovalArguments(),
			ApprovalID: result.GetApprovalId(),
			RequestID:  x.requestID,
		})
	}
	return requests
}

func awaitsApproval(result *sidecall.ToolResult) bool {
	return len(sidecall.PendingApprovals([]*sidecall.ToolResult{result})) > 0
}

func (x *turnExecution) sendDecisions(ctx context.Context, approvals map[int]*sidecall.Approval) error {
	results := x.record.known()
	var released []int
	for index, result := range results {
		if notStarted(result) && (approvals[index] != nil || !awaitsApproval(result)) {
			released = append(released, index)
		}
	}
	x.record.reopen(released)
	decisions := sending{requestID: x.requestID, timeout: x.options.BatchTimeout}
	for _, index := range slices.Sorted(maps.Keys(approvals)) {
		decisions.approvals = append(decisions.approvals, approvals[index])
	}
	err := x.send(ctx, decisions)
	var failed *sidecall.Error
	if !errors.As(err, &failed) || failed.Reason != sidecall.ReasonApprovalUnknown || !failed.NotStarted {
		return err
	}
	for _, index := range released {
		result := results[index]
		if approvals[index] != nil {
			result = lost(result)
		}
		x.record.addResult(index, result)
	}
	return nil
}

// started returns the calls whose results will not change any more.
func (x *turnExecution) started() []int {
	var indexes []int
	for index, result := range x.record.known() {
		if !notStarted(result) {
			indexes = append(indexes, index)
		}
	}
	return indexes
}

func (x *turnExecution) tell(ctx context.Context, indexes []int) error {
	results := x.record.known()
	slices.Sort(indexes)
	for _, index := range indexes {
		if x.told[index] {
			continue
		}
		x.told[index] = true
		if err := x.emitter.emit(ctx, CallFinished{x.turn, index, results[index]}); err != nil {
			return err
		}
	}
	return nil
}

// lost returns the result of a call that was decided on too late.
func lost(pending *sidecallv1.ToolResult) *sidecallv1.ToolResult {
	result := proto.CloneOf(pending)
	result.ApprovalId, result.ApprovalArguments = "", ""
	result.Content = textApprovalLost
	result.Status.Message = textApprovalLost
	return result
}
