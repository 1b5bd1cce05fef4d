package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/openai/openai-go/v3"
	"google.golang.org/protobuf/proto"
	"sidecall.dev/go"
)

// ErrBusy is returned where a loop already runs a conversation.
var ErrBusy = errors.New("chat: the loop already runs: one loop runs one conversation at a time")

// Loop drives conversations: model, tool calls, sidecar, tool messages, model.
//
// The history that it leaves is valid whatever happens: each tool call is answered, also after a
// cancellation or an error. One loop runs one conversation at a time.
type Loop struct {
	sidecar  *sidecall.Client
	provider provider
	options  Options
	dialect  dialect
	emitter  *emitter

	running sync.Mutex
	history []Item
	tools   []*sidecall.Tool
	names   *sidecall.ToolNames
	turn    int
}

// NewLoop makes a loop. It fails where an option makes no sense.
func NewLoop(sidecar *sidecall.Client, client openai.Client, options Options) (*Loop, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	l := &Loop{
		sidecar:  sidecar,
		provider: provider{client, options.RequestOptions},
		options:  options,
		dialect:  chatCompletions{},
		emitter:  &emitter{hook: options.OnEvent},
	}
	if options.API == Responses {
		l.dialect = responses{}
	}
	return l, nil
}

// History returns the conversation so far, valid to be sent again. It must not be called while
// a run is under way.
func (l *Loop) History() []Item { return slices.Clone(l.history) }

// Run asks the model a question, which goes on with the loop's history, until it answers without
// calling tools. The context ends it: with the context's error.
//
// It fails with a [*sidecall.Error] where the sidecar cannot be reached or refused a request, a
// [*ModelError] where the model's answer broke off or cannot be read, a [*HookError] where a hook
// failed, and otherwise with the error of the openai-go library.
func (l *Loop) Run(ctx context.Context, question string) (*Result, error) {
	return l.start(ctx, func() { l.history = append(l.history, User(question)) })
}

// RunMessages is like [Loop.Run], with a conversation that replaces the loop's history.
func (l *Loop) RunMessages(ctx context.Context, messages []Item) (*Result, error) {
	return l.start(ctx, func() { l.history = slices.Clone(messages) })
}

func (l *Loop) start(ctx context.Context, begin func()) (*Result, error) {
	if !l.running.TryLock() {
		return nil, ErrBusy
	}
	defer l.running.Unlock()
	begin()
	l.turn = 0
	l.history = answerOpenCalls(l.history, l.dialect)
	result, err := l.run(ctx)
	if err == nil {
		return result, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("chat: %w", ctx.Err())
	}
	if hookErr := l.emitter.report(ctx, l.turn, err); hookErr != nil {
		err = hookErr
	}
	return nil, err
}

func (l *Loop) run(ctx context.Context) (*Result, error) {
	if err := l.chooseTools(ctx); err != nil {
		return nil, err
	}
	result := &Result{Stopped: MaxTurns}
	for l.turn < l.options.MaxTurns {
		l.turn++
		if err := l.emitter.emit(ctx, TurnStarted{l.turn}); err != nil {
			return nil, err
		}
		last, turn, err := l.oneTurn(ctx)
		if err != nil {
			return nil, err
		}
		result.Turns = append(result.Turns, *turn)
		result.Usage = result.Usage.plus(turn.Usage)
		result.Text, result.Refusal = last.text, last.refusal
		if last.end != Completed || len(last.calls) == 0 {
			result.Stopped = last.end
			break
		}
	}
	return result, nil
}

func (l *Loop) chooseTools(ctx context.Context) error {
	listed, err := l.sidecar.ListTools(ctx)
	if err != nil {
		return err
	}
	if chosen := l.options.Tools; chosen != nil {
		known := sidecall.NewToolNames(listed)
		missing := slices.DeleteFunc(slices.Sorted(slices.Values(chosen)), known.Has)
		if len(missing) > 0 {
			return fmt.Errorf("%w: the sidecar offers no tool %s",
				sidecall.ErrNoSuchTool, strings.Join(slices.Compact(missing), ", "))
		}
		listed = slices.DeleteFunc(listed, func(tool *sidecall.Tool) bool {
			return !slices.Contains(chosen, tool.GetName())
		})
	}
	l.tools, l.names = listed, sidecall.NewToolNames(listed)
	return nil
}

func (l *Loop) oneTurn(ctx context.Context) (*modelTurn, *Turn, error) {
	var early *earlyCalls
	if l.options.EarlyStart {
		early = l.newEarlyCalls()
		defer early.close()
	}
	announced := l.newCalls()
	answer, err := l.ask(ctx, announced, early)
	if err != nil {
		return nil, nil, err
	}
	turn, err := l.runCalls(ctx, answer, announced, early)
	if err != nil {
		return nil, nil, err
	}
	finished := TurnFinished{l.turn, turn.Text, len(turn.Calls), turn.Usage}
	return answer, turn, l.emitter.emit(ctx, finished)
}

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
