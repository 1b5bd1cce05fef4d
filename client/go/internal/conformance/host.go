package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"sidecall.dev/go"
	"sidecall.dev/go/toolhost"
)

// hosts attaches one host at a time.
type hosts struct {
	mu      sync.Mutex
	running *runningHost
}

type runningHost struct {
	client *sidecall.Client
	stop   context.CancelFunc
	ended  chan error
	log    *toolLog
}

type toolLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *toolLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (h *hosts) run(raw json.RawMessage) (object, error) {
	var asked struct {
		Action         string  `json:"action"`
		Sidecar        sidecar `json:"sidecar"`
		HostName       string  `json:"host_name"`
		MaxConcurrency int     `json:"max_concurrency"`
	}
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	if asked.Action == "stop" {
		return h.stop()
	}
	client, err := asked.Sidecar.client()
	if err != nil {
		return object{"outcome": "error", "error": errorOf(invalidError{err})}, nil
	}
	log := &toolLog{lines: []string{}}
	tools, err := hostTools(log)
	if err != nil {
		return nil, err
	}
	host, err := toolhost.New(client, tools, &toolhost.Options{
		Name: asked.HostName, MaxConcurrency: asked.MaxConcurrency,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	started := &runningHost{client, cancel, make(chan error, 1), log}
	go func() { started.ended <- host.Run(ctx) }()
	if err := host.WaitAttached(ctx); err != nil {
		cancel()
		return object{"outcome": "error", "error": errorOf(err)}, errors.Join(client.Close())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = started
	return object{"outcome": "attached"}, nil
}

func (h *hosts) stop() (object, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil {
		return nil, errors.New("no host runs")
	}
	stopped := h.running
	h.running = nil
	stopped.stop()
	if err := <-stopped.ended; err != nil {
		return nil, err
	}
	return object{"outcome": "stopped", "log": stopped.log.lines}, stopped.client.Close()
}

func (h *hosts) close() {
	h.mu.Lock()
	running := h.running != nil
	h.mu.Unlock()
	if running {
		_, _ = h.stop() // Nobody waits for an answer any more.
	}
}

type nothing struct{}

// hostTools are the tools of the suite.
func hostTools(log *toolLog) ([]*toolhost.Tool, error) {
	made := &collected{}
	offer(made, "host_echo", sidecall.ReadOnly,
		func(_ context.Context, in struct {
			Text string `json:"text"`
		}) (string, error) {
			return in.Text, nil
		})
	offer(made, "host_add", sidecall.ReadOnly,
		func(_ context.Context, in struct {
			A int64 `json:"a"`
			B int64 `json:"b"`
		}) (map[string]int64, error) {
			return map[string]int64{"sum": in.A + in.B}, nil
		})
	offer(made, "host_nothing", sidecall.Idempotent,
		func(context.Context, nothing) (struct{}, error) { return struct{}{}, nil })
	offer(made, "host_parts", sidecall.ReadOnly, hostParts)
	offer(made, "host_progress", sidecall.ReadOnly, hostProgress)
	offer(made, "host_wait", sidecall.NonIdempotent,
		func(ctx context.Context, in struct {
			Name string `json:"name"`
		}) (string, error) {
			toolhost.CallFrom(ctx).Progress(1, 0, "waiting")
			<-ctx.Done()
			log.add(fmt.Sprintf("host_wait %s cancelled", in.Name))
			return "", ctx.Err()
		})
	offer(made, "host_fail", sidecall.NonIdempotent, hostFail)
	offer(made, "host_crash", sidecall.NonIdempotent,
		func(_ context.Context, in struct {
			Text string `json:"text"`
		}) (string, error) {
			return "", errors.New(in.Text)
		})
	offer(made, "host_large", sidecall.ReadOnly,
		func(_ context.Context, in struct {
			Size int `json:"size"`
		}) (string, error) {
			return strings.Repeat("x", in.Size), nil
		})
	offer(made, "host_context", sidecall.ReadOnly, hostContext)
	return made.tools, made.err
}

type collected struct {
	tools []*toolhost.Tool
	err   error
}

func offer[Args, Result any](
	made *collected, name string, effects sidecall.Effects,
	function func(context.Context, Args) (Result, error),
) {
	tool, err := toolhost.NewTool(
		name, "Conformance tool "+name+".", function, &toolhost.ToolOptions{Effects: effects})
	made.tools, made.err = append(made.tools, tool), errors.Join(made.err, err)
}

func hostParts(context.Context, nothing) (toolhost.Parts, error) {
	return toolhost.Parts{
		toolhost.Text("two parts"),
		toolhost.Blob("image/png", []byte("\x89PNG\r\n\x1a\n"), "dot.png"),
		toolhost.Link("https://example.com/a", "text/html", "a"),
	}, nil
}

func hostProgress(ctx context.Context, in struct {
	Steps int `json:"steps"`
}) (string, error) {
	call := toolhost.CallFrom(ctx)
	for i := 1; i <= in.Steps; i++ {
		call.Progress(float64(i), float64(in.Steps), fmt.Sprintf("step %d", i))
		call.Output(fmt.Sprintf("part %d;", i))
	}
	return "done", nil
}

func hostFail(_ context.Context, in struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
}) (string, error) {
	failure := toolhost.NewToolError(codes.Unknown, in.Message)
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if sidecall.CodeName(code) == in.Code {
			failure.Code = code
		}
	}
	failure.RetryAfter = time.Duration(in.RetryAfterMS) * time.Millisecond
	return "", failure
}

func hostContext(ctx context.Context, _ nothing) (object, error) {
	call := toolhost.CallFrom(ctx)
	_, hasDeadline := ctx.Deadline()
	facts := call.Context
	if facts == nil {
		facts = map[string]string{}
	}
	return object{
		"context": facts, "call_id": call.ID, "attempt": call.Attempt,
		"idempotency_key": call.IdempotencyKey, "traceparent": call.TraceParent,
		"has_deadline": hasDeadline,
	}, nil
}
