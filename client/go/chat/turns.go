package chat

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"sidecall.dev/go"
)

func (l *Loop) newEarlyCalls() *earlyCalls {
	options := l.options.batch()
	if l.options.Resend {
		options.RequestID = newRequestID()
	}
	return &earlyCalls{
		turn: l.turn,
		// No deadline here: the RPC is open while the model is still writing.
		open: func(ctx context.Context) (*sidecall.BatchStream, error) {
			return l.sidecar.StreamBatch(ctx, &options)
		},
		emitter:       l.emitter,
		timeout:       l.options.BatchTimeout,
		holdUnstarted: l.options.Approve != nil,
		told:          map[int]bool{},
		refused:       map[int]refusedCall{},
		results:       map[int]*sidecall.ToolResult{},
	}
}

func (l *Loop) newCalls() *turnCalls {
	return &turnCalls{
		names: l.names,
		// The history only grows, so its length tells this turn from all others.
		prefix: fmt.Sprintf("call_%d", len(l.history)),
		taken:  l.dialect.callIDs(l.history),
		// A tool that was not chosen is not run because a model guesses its name.
		offeredOnly: l.options.Tools != nil,
		refused:     map[int]refusedCall{},
	}
}

// ask asks the model; calls that it finishes before its turn is over are announced.
func (l *Loop) ask(ctx context.Context, announced *turnCalls, early *earlyCalls) (*modelTurn, error) {
	body, err := l.dialect.request(l.history, l.tools, l.names, &l.options)
	if err != nil {
		return nil, err
	}
	if l.options.Stream {
		return l.askStreaming(ctx, body, announced, early)
	}
	answer, err := l.dialect.create(ctx, l.provider, body)
	if err != nil {
		return nil, err
	}
	turn, err := l.dialect.parse(answer)
	if err != nil {
		return nil, err
	}
	for _, part := range []textPart{{turn.text, false}, {turn.refusal, true}} {
		if part.text == "" {
			continue
		}
		if err := l.takePart(ctx, part, announced, early); err != nil {
			return nil, err
		}
	}
	return turn, nil
}

func (l *Loop) askStreaming(
	ctx context.Context, body Item, announced *turnCalls, early *earlyCalls,
) (*modelTurn, error) {
	stream := l.dialect.open(ctx, l.provider, body)
	defer stream.close()
	assembler := l.dialect.assembler()
	for {
		event, more, err := stream.next()
		if err != nil {
			return nil, err
		}
		if !more {
			return assembler.finish()
		}
		parts, err := assembler.feed(event)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			if err := l.takePart(ctx, part, announced, early); err != nil {
				return nil, err
			}
		}
	}
}

func (l *Loop) takePart(ctx context.Context, part streamPart, announced *turnCalls, early *earlyCalls) error {
	switch part := part.(type) {
	case textPart:
		if part.isRefusal {
			return l.emitter.emit(ctx, RefusalDelta{l.turn, part.text})
		}
		return l.emitter.emit(ctx, TextDelta{l.turn, part.text})
	case callDone:
		first := len(announced.batch)
		announced.add(part.call)
		for index := first; index < len(announced.batch); index++ {
			if err := l.emitter.emit(ctx, CallReady{l.turn, index, announced.batch[index]}); err != nil {
				return err
			}
		}
		if early != nil && len(announced.batch) > first {
			return early.send(ctx, announced)
		}
	case callReopened:
		if early != nil {
			return early.abandon(ctx, "more of a call arrived after the next one had begun")
		}
	}
	return nil
}

func (l *Loop) runCalls(
	ctx context.Context, answer *modelTurn, announced *turnCalls, early *earlyCalls,
) (*Turn, error) {
	calls := l.newCalls()
	for _, call := range answer.calls {
		calls.add(call)
	}
	record := newTurnRecord(&l.history, l.dialect, answer, calls, !l.options.WithoutAttachments)
	switch {
	case answer.end == Length:
		record.fail(textNotRunLength)
	case answer.end == ContentFilter:
		record.fail(textNotRunFilter)
	case len(calls.batch) > 0:
		if err := l.announce(ctx, calls, announced); err != nil {
			return nil, err
		}
		execution := &turnExecution{
			turn: l.turn, calls: calls, record: record, options: &l.options,
			sidecar: l.sidecar, emitter: l.emitter, told: map[int]bool{},
		}
		if err := execution.run(ctx, early); err != nil {
			if failed := failureOf(ctx, err); failed != nil {
				record.fail(textFailed(failed))
			}
			return nil, err
		}
	}
	turn := &Turn{Text: answer.text, Calls: calls.batch, Usage: answer.usage}
	results := record.known()
	for index := range calls.batch {
		if result := results[index]; result != nil {
			turn.Results = append(turn.Results, result)
		}
	}
	return turn, nil
}

// announce tells of the calls that were not announced, or not as they are, while the model wrote
// them.
func (l *Loop) announce(ctx context.Context, calls, announced *turnCalls) error {
	for index, call := range calls.batch {
		if index < len(announced.batch) && proto.Equal(announced.batch[index], call) {
			continue
		}
		if err := l.emitter.emit(ctx, CallReady{l.turn, index, call}); err != nil {
			return err
		}
	}
	return nil
}
