package chat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sidecall.dev/go"
	"sidecall.dev/go/chat"
	"sidecall.dev/go/internal/fakesidecar"
	"sidecall.dev/go/sidecallv1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// model answers requests with texts, in order, and keeps the requests.
type model struct {
	mu       sync.Mutex
	answers  []string
	requests []map[string]any
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var request map[string]any
	text, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(text, &request)
	}
	if err != nil || len(m.answers) == 0 {
		http.Error(w, fmt.Sprint("no answer is left: ", err), http.StatusTeapot)
		return
	}
	m.requests = append(m.requests, request)
	answer := m.answers[0]
	m.answers = m.answers[1:]
	w.Header().Set("Content-Type", "application/json")
	if strings.HasPrefix(answer, "data:") {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	_, _ = io.WriteString(w, answer) // A client that has gone reads nothing.
}

func message(text string, calls ...string) string {
	end := "stop"
	if len(calls) > 0 {
		end = "tool_calls"
	}
	return fmt.Sprintf(`{"choices":[{"index":0,"finish_reason":%q,"message":{"role":"assistant",
		"content":%q,"tool_calls":[%s]}}],"usage":{"prompt_tokens":2,"completion_tokens":1}}`,
		end, text, strings.Join(calls, ","))
}

func callOf(id, name, arguments string) string {
	return fmt.Sprintf(`{"id":%q,"type":"function","function":{"name":%q,"arguments":%q}}`, id, name, arguments)
}

func chunks(deltas ...string) string {
	var out strings.Builder
	for _, delta := range deltas {
		fmt.Fprintf(&out, "data: {\"choices\":[{\"index\":0,\"delta\":%s}]}\n\n", delta)
	}
	out.WriteString("data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
	return out.String()
}

func listing(names ...string) func(
	context.Context, *sidecallv1.ListToolsRequest,
) (*sidecallv1.ListToolsResponse, error) {
	response := &sidecallv1.ListToolsResponse{}
	for _, name := range names {
		response.Tools = append(response.Tools, &sidecallv1.Tool{Name: name})
	}
	return func(context.Context, *sidecallv1.ListToolsRequest) (*sidecallv1.ListToolsResponse, error) {
		return response, nil
	}
}

func loopOf(t *testing.T, fake *fakesidecar.Fake, m *model, options chat.Options) *chat.Loop {
	t.Helper()
	if fake.Tools == nil {
		fake.Tools = listing("echo")
	}
	client, err := sidecall.NewClient(sidecall.WithEndpoint(fake.Start(t)), sidecall.WithRetries(0))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(m)
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	provider := openai.NewClient(
		option.WithBaseURL(server.URL), option.WithAPIKey("k"), option.WithMaxRetries(0),
		option.WithHTTPClient(&http.Client{Transport: transport}),
	)
	options.Model = "m"
	loop, err := chat.NewLoop(client, provider, options)
	if err != nil {
		t.Fatal(err)
	}
	return loop
}

// contents returns what the tool messages of a history say, by the ids of their calls; it fails
// where they do not answer the calls.
func contents(t *testing.T, history []chat.Item) map[string]string {
	t.Helper()
	calls, found := []string{}, map[string]string{}
	text, err := json.Marshal(history)
	if err != nil {
		t.Fatal(err)
	}
	var messages []struct {
		Role       string `json:"role"`
		Content    any    `json:"content"`
		ToolCallID string `json:"tool_call_id"`
		ToolCalls  []struct {
			ID string `json:"id"`
		} `json:"tool_calls"`
	}
	if err := json.Unmarshal(text, &messages); err != nil {
		t.Fatal(err)
	}
	for _, message := range messages {
		for _, call := range message.ToolCalls {
			calls = append(calls, call.ID)
		}
		if message.Role == "tool" {
			content, _ := message.Content.(string)
			found[message.ToolCallID] = content
			calls = slices.DeleteFunc(calls, func(id string) bool { return id == message.ToolCallID })
		}
	}
	if len(calls) > 0 {
		t.Errorf("no answer to %v in %s", calls, text)
	}
	return found
}

func TestALoopRunsCallsUntilTheModelAnswers(t *testing.T) {
	m := &model{answers: []string{
		message("", callOf("a", "echo", `{"n":1}`), callOf("", "functions.echo", "")), message("Done."),
	}}
	loop := loopOf(t, &fakesidecar.Fake{Batch: fakesidecar.Echo}, m, chat.Options{
		ReferenceHint: true, Request: map[string]any{"temperature": 0},
	})

	result, err := loop.Run(t.Context(), "Go.")

	if err != nil || result.Text != "Done." || result.Stopped != chat.Completed || len(result.Turns) != 2 {
		t.Fatal(result, err)
	}
	if got := contents(t, loop.History()); got["a"] != `{"n":1}` || len(got) != 2 {
		t.Error(got)
	}
	if result.Usage.TotalTokens() != 6 {
		t.Error(result.Usage)
	}
	if first := m.requests[0]; first["temperature"] != 0.0 || first["tools"] == nil || first["model"] != "m" {
		t.Error(first)
	}
	if len(loop.History()) != 5 {
		t.Error("the hint is in the history:", loop.History())
	}
}

func TestHistoriesAreValidAfterACancellation(t *testing.T) {
	m := &model{answers: []string{message("", callOf("a", "echo", "")), message("Again.")}}
	begun := make(chan struct{})
	fake := &fakesidecar.Fake{Batch: func(
		ctx context.Context, _ *sidecallv1.ExecuteBatchRequest,
	) (*sidecallv1.ExecuteBatchResponse, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	var told []chat.Event
	loop := loopOf(t, fake, m, chat.Options{OnEvent: func(_ context.Context, event chat.Event) error {
		told = append(told, event)
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()

	_, err := loop.Run(ctx, "Go.")

	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := contents(t, loop.History()); !strings.HasPrefix(got["a"], "CANCELLED: ") {
		t.Error(got)
	}
	for _, event := range told {
		if _, is := event.(chat.ErrorOccurred); is {
			t.Error("a cancellation was told as an error")
		}
	}
	if result, err := loop.Run(t.Context(), "Go on."); err != nil || result.Text != "Again." {
		t.Error("the conversation does not go on:", err)
	}
}

func TestAFailedBatchIsAnswered(t *testing.T) {
	m := &model{answers: []string{message("", callOf("a", "echo", "")), message("", callOf("b", "echo", ""))}}
	refusals := []error{
		fakesidecar.Refusal(codes.Unavailable, "DRAINING", -1), status.Error(codes.Internal, "bug"),
	}
	fake := &fakesidecar.Fake{Batch: func(
		context.Context, *sidecallv1.ExecuteBatchRequest,
	) (*sidecallv1.ExecuteBatchResponse, error) {
		err := refusals[0]
		refusals = refusals[1:]
		return nil, err
	}}
	loop := loopOf(t, fake, m, chat.Options{})

	_, first := loop.Run(t.Context(), "Go.")
	_, second := loop.Run(t.Context(), "Go.")

	if !errors.Is(first, sidecall.ReasonDraining) || second == nil {
		t.Error(first, second)
	}
	got := contents(t, loop.History())
	if got["a"] != "NOT RUN: the tools cannot be reached at present (UNAVAILABLE/DRAINING: refused)." ||
		!strings.HasPrefix(got["b"], "UNKNOWN: the connection to the tools failed (INTERNAL: bug).") {
		t.Error(got)
	}
}

func TestAHookThatFailsEndsTheChat(t *testing.T) {
	m := &model{answers: []string{message("Hi.")}}
	failure := errors.New("full disk")
	var last chat.Event
	loop := loopOf(t, &fakesidecar.Fake{}, m, chat.Options{OnEvent: func(_ context.Context, event chat.Event) error {
		last = event
		if _, is := event.(chat.TextDelta); is {
			return failure
		}
		return nil
	}})

	_, err := loop.Run(t.Context(), "Go.")

	var hook *chat.HookError
	if !errors.As(err, &hook) || !errors.Is(err, failure) {
		t.Error(err)
	}
	if _, is := last.(chat.TextDelta); !is {
		t.Error("the hook was told of its own error:", last)
	}
}

func TestStreamedCallsGoOutWhileTheModelWrites(t *testing.T) {
	m := &model{answers: []string{
		chunks(
			`{"role":"assistant","tool_calls":[{"index":0,"id":"a","function":{"name":"echo","arguments":"{\"n\""}}]}`,
			`{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}`,
			`{"tool_calls":[{"index":1,"id":"b","function":{"name":"echo","arguments":""}}],"extra":{"s":"x"}}`,
		),
		chunks(`{"content":"D"}`, `{"content":"one."}`),
	}}
	fake := &fakesidecar.Fake{Stream: serveTurn}
	var kinds []string
	loop := loopOf(t, fake, m, chat.Options{
		Stream: true, EarlyStart: true,
		OnEvent: func(_ context.Context, event chat.Event) error {
			kinds = append(kinds, strings.TrimPrefix(fmt.Sprintf("%T", event), "chat."))
			return nil
		},
	})

	result, err := loop.Run(t.Context(), "Go.")

	if err != nil || result.Text != "Done." {
		t.Fatal(result, err)
	}
	if got := contents(t, loop.History()); got["a"] != `{"n":1}` || got["b"] != "" {
		t.Error(got)
	}
	if loop.History()[1]["extra"] == nil {
		t.Error("what the provider adds is lost:", loop.History()[1])
	}
	if !slices.Contains(kinds, "CallFinished") || kinds[0] != "TurnStarted" {
		t.Error(kinds)
	}
}

// serveTurn answers the calls of a turn with their arguments, after the seal.
func serveTurn(stream fakesidecar.StreamServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	events := []*sidecallv1.BatchEvent{{
		Event: &sidecallv1.BatchEvent_Accepted{Accepted: &sidecallv1.BatchAccepted{}},
	}}
	if err := stream.Send(&sidecallv1.StreamBatchResponse{Events: events}); err != nil {
		return err
	}
	events = nil
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil // The turn was given up.
		}
		if call := message.GetCall(); call != nil {
			result := fakesidecar.ResultOf(call.GetCall(), call.GetCall().GetArguments())
			events = append(events, &sidecallv1.BatchEvent{Event: &sidecallv1.BatchEvent_Result{
				Result: &sidecallv1.CallFinished{Index: call.GetIndex(), Result: result},
			}})
		}
		if message.GetSeal() != nil {
			break
		}
	}
	events = append(events, &sidecallv1.BatchEvent{
		Event: &sidecallv1.BatchEvent_Summary{Summary: &sidecallv1.BatchSummary{Sealed: true}},
	})
	if err := stream.Send(&sidecallv1.StreamBatchResponse{Events: events}); err != nil {
		return err
	}
	_, _ = stream.Recv() // The half-close.
	return nil
}

func TestAStreamThatBreaksIsAnErrorOfTheModel(t *testing.T) {
	m := &model{answers: []string{"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n"}}
	loop := loopOf(t, &fakesidecar.Fake{}, m, chat.Options{Stream: true})

	_, err := loop.Run(t.Context(), "Go.")

	var broken *chat.ModelError
	if !errors.As(err, &broken) || len(loop.History()) != 1 {
		t.Error(err, loop.History())
	}
}

func TestErrorsOfTheProviderAreThoseOfItsLibrary(t *testing.T) {
	loop := loopOf(t, &fakesidecar.Fake{}, &model{}, chat.Options{})

	_, err := loop.Run(t.Context(), "Go.")

	var refused *openai.Error
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusTeapot {
		t.Error(err)
	}
}

func TestToolsThatAreNotThere(t *testing.T) {
	loop := loopOf(t, &fakesidecar.Fake{}, &model{}, chat.Options{Tools: []string{"none"}})

	if _, err := loop.Run(t.Context(), "Go."); !errors.Is(err, sidecall.ErrNoSuchTool) {
		t.Error(err)
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, options := range []chat.Options{
		{}, {Model: "m", API: "x"}, {Model: "m", MaxTurns: -1}, {Model: "m", BatchTimeout: -1},
		{Model: "m", Request: map[string]any{"n": 2}}, {Model: "m", Request: map[string]any{"tools": "all"}}, {Model: "m", Batch: sidecall.BatchOptions{RequestID: "r"}},
	} {
		if _, err := chat.NewLoop(nil, openai.Client{}, options); err == nil {
			t.Errorf("%+v was taken", options)
		}
	}
}

func TestOneLoopRunsOneConversationAtATime(t *testing.T) {
	m := &model{answers: []string{message("Hi.")}}
	var loop *chat.Loop
	var inner error
	loop = loopOf(t, &fakesidecar.Fake{}, m, chat.Options{OnEvent: func(ctx context.Context, event chat.Event) error {
		if _, is := event.(chat.TextDelta); is {
			_, inner = loop.Run(ctx, "Me too.")
		}
		return nil
	}})

	if _, err := loop.Run(t.Context(), "Go."); err != nil || !errors.Is(inner, chat.ErrBusy) {
		t.Error(err, inner)
	}
}

func TestHistoriesOfTheLibraryCanBeGiven(t *testing.T) {
	items, err := chat.Items(openai.SystemMessage("Be brief."), openai.UserMessage("Hi."))
	if err != nil {
		t.Fatal(err)
	}
	items = append(items, chat.Item{"role": "assistant", "tool_calls": []map[string]string{{"id": "open"}}})
	m := &model{answers: []string{message("Hi.")}}
	loop := loopOf(t, &fakesidecar.Fake{}, m, chat.Options{ReferenceHint: true})

	if _, err := loop.RunMessages(t.Context(), items); err != nil {
		t.Fatal(err)
	}

	messages, _ := m.requests[0]["messages"].([]any)
	first, _ := messages[0].(map[string]any)
	if text, _ := first["content"].(string); len(messages) != 4 || !strings.HasPrefix(text, "Be brief.\n\nYou can call") {
		t.Error(messages)
	}
	if got := contents(t, loop.History()); got["open"] == "" {
		t.Error("a call of the given history has no answer:", got)
	}
	if _, err := chat.Items("text"); err == nil {
		t.Error("text was taken for a message")
	}
}

func TestImagesFollowTheAnswers(t *testing.T) {
	m := &model{answers: []string{message("", callOf("a", "draw", "")), message("Nice.")}}
	fake := &fakesidecar.Fake{Tools: listing("draw"), Batch: func(
		_ context.Context, request *sidecallv1.ExecuteBatchRequest,
	) (*sidecallv1.ExecuteBatchResponse, error) {
		result := fakesidecar.ResultOf(request.GetCalls()[0], "[image/png, 1 bytes]")
		result.Parts = []*sidecallv1.ResultPart{{Part: &sidecallv1.ResultPart_Blob{
			Blob: &sidecallv1.Blob{MediaType: "image/png", Data: []byte("\x89PNG\r\n\x1a\n")},
		}}}
		return &sidecallv1.ExecuteBatchResponse{Results: []*sidecallv1.ToolResult{result}}, nil
	}}
	loop := loopOf(t, fake, m, chat.Options{})

	if _, err := loop.Run(t.Context(), "Draw."); err != nil {
		t.Fatal(err)
	}

	history := loop.History()
	if len(history) != 5 || history[3]["role"] != "user" || history[4]["role"] != "assistant" {
		t.Error(history)
	}
}
