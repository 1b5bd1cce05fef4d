package toolhost_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"sidecall.dev/go"
	"sidecall.dev/go/internal/fakesidecar"
	"sidecall.dev/go/sidecallv1"
	"sidecall.dev/go/toolhost"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type textArgs struct {
	Text string `json:"text" jsonschema:"what to say"`
}

func toolOf[Args, Result any](
	t *testing.T, name string, function func(context.Context, Args) (Result, error),
) *toolhost.Tool {
	t.Helper()
	tool, err := toolhost.NewTool(name, "Does "+name+".", function, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tool
}

type running struct {
	t      *testing.T
	host   *toolhost.Host
	cancel context.CancelFunc
	ended  chan error
}

func run(t *testing.T, d *desk, options *toolhost.Options, tools ...*toolhost.Tool) *running {
	t.Helper()
	client, err := sidecall.NewClient(sidecall.WithEndpoint(d.Start(t)))
	if err != nil {
		t.Fatal(err)
	}
	if options == nil {
		options = &toolhost.Options{}
	}
	options.Logger = slog.New(slog.DiscardHandler)
	host, err := toolhost.New(client, tools, options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t, host, cancel, make(chan error, 1)}
	go func() { r.ended <- host.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		<-r.ended
	})
	return r
}

// stop drains the host while the sidecar plays along; it returns what Run returned.
func (r *running) stop(a *attached) error {
	r.t.Helper()
	if err := r.host.WaitAttached(r.t.Context()); err != nil {
		r.t.Error(err)
	}
	r.cancel()
	for {
		message, err := a.stream.Recv()
		if err != nil {
			break
		}
		if message.GetDrain() != nil {
			a.sendDraining()
		}
	}
	a.end <- nil
	err := <-r.ended
	r.ended <- err
	return err
}

func TestFunctionsAnswerCalls(t *testing.T) {
	d := newDesk()
	r := run(t, d, &toolhost.Options{Name: "app", MaxConcurrency: 3},
		toolOf(t, "echo", func(_ context.Context, in textArgs) (string, error) { return in.Text, nil }),
		toolOf(t, "object", func(context.Context, struct{}) (map[string]any, error) {
			return map[string]any{"a": "<b>"}, nil
		}),
		toolOf(t, "nothing", func(context.Context, struct{}) (any, error) { return nil, nil }),
		toolOf(t, "parts", func(context.Context, struct{}) (toolhost.Parts, error) {
			return toolhost.Parts{toolhost.Text("t\xff"), toolhost.Blob("image/png", []byte("x"), "a")}, nil
		}),
	)
	a := d.accept(t)
	if err := r.host.WaitAttached(t.Context()); err != nil || !r.host.Attached() {
		t.Fatal(err)
	}

	a.call(1, "echo", `{"text":"hi"}`)
	echoed := a.result()
	a.call(2, "object", "")
	object := a.result()
	a.call(3, "nothing", "{}")
	nothing := a.result()
	a.call(4, "parts", "{}")
	parts := a.result()

	if echoed.GetAttemptId() != 1 || echoed.GetText() != "hi" || echoed.GetStatus().GetCode() != 0 {
		t.Error(echoed)
	}
	if object.GetJson() != `{"a":"<b>"}` || nothing.GetJson() != "null" {
		t.Error(object, nothing)
	}
	if got := parts.GetParts().GetParts(); len(got) != 2 || got[0].GetText() != "t\uFFFD" || got[1].GetBlob().GetName() != "a" {
		t.Error(parts)
	}
	if a.offer.GetHostName() != "app" || a.offer.GetMaxConcurrency() != 3 || a.offer.GetMaxMessageBytes() != 16<<20 ||
		a.offer.GetUserAgent() != "sidecall-go/"+sidecall.Version {
		t.Error(a.offer)
	}
	if err := r.stop(a); err != nil {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	d := newDesk()
	r := run(t, d, nil,
		toolOf(t, "told", func(context.Context, struct{}) (string, error) {
			return "", fmt.Errorf("inside: %w", &toolhost.ToolError{
				Code: codes.NotFound, Message: "no such city", RetryAfter: time.Second,
			})
		}),
		toolOf(t, "secret", func(context.Context, struct{}) (string, error) { return "", errors.New("password") }),
		toolOf(t, "panics", func(context.Context, struct{}) (string, error) { panic("password") }),
		toolOf(t, "typed", func(context.Context, struct {
			N int `json:"n"`
		}) (string, error) {
			return "", nil
		}),
		toolOf(t, "unwritable", func(context.Context, struct{}) (float64, error) { return math.NaN(), nil }),
		toolOf(t, "large", func(context.Context, struct{}) (string, error) { return strings.Repeat("x", 2<<20), nil }),
	)
	a := d.accept(t)
	for _, wanted := range []struct {
		tool, arguments, message string
		code                     codes.Code
		state                    sidecallv1.ExecutionState
	}{
		{"told", "", "no such city", codes.NotFound, 2},
		{"secret", "", "failed with an internal error", codes.Unknown, 2},
		{"panics", "", "failed with an internal error", codes.Unknown, 2},
		{"typed", `{"n":"x"}`, "- /n: a JSON string does not fit int", codes.InvalidArgument, 1},
		{"unwritable", "", "cannot be written as JSON", codes.Unknown, 2},
		{"large", "", "larger than the 1048576 bytes", codes.ResourceExhausted, 2},
		{"none", "", "There is no tool 'none' here.", codes.NotFound, 1},
	} {
		a.call(7, wanted.tool, wanted.arguments)
		result := a.result()
		if codes.Code(result.GetStatus().GetCode()) != wanted.code || result.GetExecutionState() != wanted.state ||
			!strings.Contains(result.GetStatus().GetMessage(), wanted.message) ||
			strings.Contains(result.GetStatus().GetMessage(), "password") {
			t.Errorf("%s: %v", wanted.tool, result)
		}
		if wanted.tool == "told" && result.GetRetryAfter().AsDuration() != time.Second {
			t.Error(result)
		}
	}
	if err := r.stop(a); err != nil {
		t.Error(err)
	}
}

func waiting(ctx context.Context, _ struct{}) (string, error) {
	toolhost.CallFrom(ctx).Progress(1, 0, "waiting")
	<-ctx.Done()
	return "", ctx.Err()
}

func TestCancellationAndDeadline(t *testing.T) {
	d := newDesk()
	r := run(t, d, nil, toolOf(t, "wait", waiting))
	a := d.accept(t)

	a.call(1, "wait", "")
	if progress := a.receive().GetProgress(); progress.GetMessage() != "waiting" || progress.Total != nil {
		t.Error(progress)
	}
	a.send(&sidecallv1.AttachResponse{
		Message: &sidecallv1.AttachResponse_Cancel{Cancel: &sidecallv1.HostCancel{AttemptId: 1}},
	})
	cancelled := a.result()
	a.sendCall(&sidecallv1.HostCall{AttemptId: 2, Name: "wait", Timeout: durationpb.New(time.Millisecond)})
	late := a.result()

	if cancelled.GetStatus().GetCode() != int32(codes.Canceled) || cancelled.GetExecutionState() != 3 {
		t.Error(cancelled)
	}
	// A function that was not started in time ends as one that was not started.
	if late.GetStatus().GetCode() != int32(codes.DeadlineExceeded) || late.GetExecutionState() == 2 {
		t.Error(late)
	}
	if err := r.stop(a); err != nil {
		t.Error(err)
	}
}

func TestAFunctionSeesItsCall(t *testing.T) {
	d := newDesk()
	r := run(t, d, nil, toolOf(t, "facts", func(ctx context.Context, _ struct{}) (string, error) {
		call := toolhost.CallFrom(ctx)
		call.Output(strings.Repeat("ü", 100_000))
		parent, state := sidecall.TraceContext(ctx)
		return fmt.Sprint(call.Tool, call.ID, call.Attempt, call.Context["user"], call.IdempotencyKey, parent, state), nil
	}))
	a := d.accept(t)

	a.sendCall(&sidecallv1.HostCall{
		AttemptId: 1, Name: "facts", CallId: "c", Attempt: 2, Context: map[string]string{"user": "u"},
		IdempotencyKey: "k", Traceparent: "p", Tracestate: "s",
	})

	output := a.receive().GetPartialOutput().GetText() + a.receive().GetPartialOutput().GetText()
	if output != strings.Repeat("ü", 100_000) {
		t.Error("the output arrived as", len(output), "bytes")
	}
	if result := a.result(); result.GetText() != "factsc2ukps" {
		t.Error(result)
	}
	if err := r.stop(a); err != nil {
		t.Error(err)
	}
}

func TestAHostAttachesAgain(t *testing.T) {
	d := newDesk()
	r := run(t, d, nil, toolOf(t, "wait", waiting))
	first := d.accept(t)
	first.call(1, "wait", "")
	first.receive()
	first.end <- fakesidecar.Refusal(codes.Unavailable, "DRAINING", -1)

	second := d.accept(t)
	if err := r.host.WaitAttached(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.stop(second); err != nil {
		t.Error(err)
	}
}

func TestASidecarThatDrainsGetsItsAnswers(t *testing.T) {
	d := newDesk()
	release := make(chan struct{})
	r := run(t, d, nil, toolOf(t, "slow", func(context.Context, struct{}) (string, error) {
		<-release
		return "done", nil
	}))
	a := d.accept(t)
	a.call(1, "slow", "")
	a.sendDraining()
	close(release)

	if result := a.result(); result.GetText() != "done" {
		t.Error(result)
	}
	if _, err := a.stream.Recv(); err == nil {
		t.Error("the host does not half-close")
	}
	a.end <- nil
	if err := r.stop(d.accept(t)); err != nil {
		t.Error(err)
	}
}

func TestADrainAbandonsWhatDoesNotEnd(t *testing.T) {
	d := newDesk()
	entered, release := make(chan struct{}), make(chan struct{})
	r := run(t, d, &toolhost.Options{DrainTimeout: time.Millisecond},
		toolOf(t, "stuck", func(context.Context, struct{}) (string, error) {
			close(entered)
			<-release
			return "", nil
		}))
	a := d.accept(t)
	a.call(1, "stuck", "")
	<-entered
	r.cancel()
	if drain := a.receive().GetDrain(); drain == nil {
		t.Error("no drain was asked for")
	}

	result := a.result()
	a.end <- nil
	err := <-r.ended
	r.ended <- err
	close(release)

	if result.GetExecutionState() != 3 || result.GetStatus().GetCode() != int32(codes.Canceled) {
		t.Error(result)
	}
	if !errors.Is(err, toolhost.ErrDrainTimeout) {
		t.Error(err)
	}
}

func TestARefusalForGoodEndsRun(t *testing.T) {
	d := newDesk()
	d.Host = func(fakesidecar.HostServer) error {
		return fakesidecar.Refusal(codes.AlreadyExists, "TOOL_NAME_TAKEN", -1)
	}
	r := run(t, d, nil, toolOf(t, "wait", waiting))

	err := r.host.WaitAttached(t.Context())

	if !errors.Is(err, sidecall.ReasonToolNameTaken) {
		t.Error(err)
	}
	if err := r.host.Run(t.Context()); !errors.Is(err, toolhost.ErrRunning) {
		t.Error(err)
	}
}

func TestAHostSaysThatItIsAlive(t *testing.T) {
	d := newDesk()
	d.attached.HeartbeatInterval = durationpb.New(time.Millisecond)
	r := run(t, d, nil, toolOf(t, "wait", waiting))
	a := d.accept(t)

	if a.receive().GetHeartbeat() == nil {
		t.Error("the host sends no heartbeats")
	}
	if err := r.stop(a); err != nil {
		t.Error(err)
	}
}

func TestAHostLeavesASilentSidecar(t *testing.T) {
	d := newDesk()
	d.attached.SilenceTimeout = durationpb.New(time.Millisecond)
	r := run(t, d, nil, toolOf(t, "wait", waiting))
	<-d.accept(t).stream.Context().Done()

	d.attached.SilenceTimeout = nil
	if err := r.stop(d.accept(t)); err != nil {
		t.Error(err)
	}
}

func TestSlotsAreKept(t *testing.T) {
	d := newDesk()
	entered, release := make(chan struct{}, 2), make(chan struct{})
	r := run(t, d, &toolhost.Options{MaxConcurrency: 1},
		toolOf(t, "slow", func(context.Context, struct{}) (string, error) {
			entered <- struct{}{}
			<-release
			return "", nil
		}))
	a := d.accept(t)
	a.call(1, "slow", "")
	<-entered
	a.sendCall(&sidecallv1.HostCall{AttemptId: 2, Name: "slow", Timeout: durationpb.New(time.Millisecond)})

	if refused := a.result(); refused.GetAttemptId() != 2 || refused.GetExecutionState() != 1 {
		t.Error(refused)
	}
	close(release)
	if err := r.stop(a); err != nil {
		t.Error(err)
	}
}

func TestSchemas(t *testing.T) {
	type place struct {
		City string `json:"city" jsonschema:"where"`
		Days int    `json:"days,omitempty"`
	}
	client, err := sidecall.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	function := func(context.Context, place) (string, error) { return "", nil }
	tool, err := toolhost.NewTool("t", "", function, &toolhost.ToolOptions{
		Effects: sidecall.ReadOnly, Lane: "{city}", Limits: toolhost.Limits{
			Timeout: time.Second, Rate: &toolhost.Rate{Count: 1, Period: time.Second},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := toolhost.New(client, []*toolhost.Tool{tool, tool}, nil); err == nil {
		t.Error("two tools of one name were taken")
	}
	if _, err := toolhost.New(client, nil, nil); err == nil {
		t.Error("a host without tools was made")
	}
	if _, err := toolhost.NewTool("t", "", func(context.Context, []int) (string, error) { return "", nil }, nil); err == nil {
		t.Error("a list was taken for arguments")
	}
	given := &toolhost.ToolOptions{InputSchema: json.RawMessage(`{"type":"object"}`)}
	if _, err := toolhost.NewTool("t", "", func(context.Context, any) (string, error) { return "", nil }, given); err != nil {
		t.Error(err)
	}
	limits := &toolhost.ToolOptions{Limits: toolhost.Limits{MaxQueue: 1 << 40}}
	if _, err := toolhost.NewTool("t", "", function, limits); err == nil {
		t.Error("a limit beyond all bounds was taken")
	}
	given.InputSchema = "text"
	if _, err := toolhost.NewTool("t", "", function, given); err == nil {
		t.Error("text was taken for a schema")
	}
}
