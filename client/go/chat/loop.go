package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/openai/openai-go/v3"
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

// RunMessages is like [Loop.Run], with a conversation that replaces the loop's history. It also
// fails where a message has no JSON form.
func (l *Loop) RunMessages(ctx context.Context, messages []Item) (*Result, error) {
	values := make([]any, len(messages))
	for i, message := range messages {
		values[i] = message
	}
	history, err := Items(values...)
	if err != nil {
		return nil, err
	}
	return l.start(ctx, func() { l.history = history })
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
	answer, err := l.sidecar.ListTools(ctx)
	if err != nil {
		return err
	}
	listed := answer.Tools
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
