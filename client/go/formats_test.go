package sidecall_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"sidecall.dev/go"
	"sidecall.dev/go/sidecallv1"
)

func namesOf(names ...string) *sidecall.ToolNames {
	var tools []*sidecall.Tool
	for _, name := range names {
		tools = append(tools, &sidecall.Tool{Name: name})
	}
	return sidecall.NewToolNames(tools)
}

func TestNamesThereAndBack(t *testing.T) {
	long := strings.Repeat("x", 70)
	given := []string{"plain", "clock.now", "a.b", "a/b", "a_c", "a.c", long, "ü"}
	names := namesOf(given...)

	seen := map[string]bool{}
	for _, name := range given {
		provider, err := names.ToProvider(name)
		if err != nil || len(provider) > 64 || seen[provider] || names.ToTool(provider) != name {
			t.Errorf("%q became %q: %v", name, provider, err)
		}
		seen[provider] = true
	}
	for name, wanted := range map[string]string{"plain": "plain", "clock.now": "clock_now", "a_c": "a_c", "ü": "_"} {
		if provider, _ := names.ToProvider(name); provider != wanted {
			t.Errorf("%q became %q", name, provider)
		}
	}
	// The same in every language.
	if provider, _ := names.ToProvider("a.b"); provider != "a_b_2e7336dc" {
		t.Error(provider)
	}
	if _, err := names.ToProvider("none"); !errors.Is(err, sidecall.ErrNoSuchTool) {
		t.Error(err)
	}
}

func TestWhatAModelMayWriteForAName(t *testing.T) {
	names := namesOf("clock.now", "functions.real")
	for written, wanted := range map[string]string{
		"clock_now": "clock.now", "functions.clock_now": "clock.now", "functions.clock.now": "clock.now",
		"functions.real": "functions.real", "unknown": "unknown", "functions.unknown": "functions.unknown",
	} {
		if tool := names.ToTool(written); tool != wanted {
			t.Errorf("%q means %q", written, tool)
		}
	}
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestToolsInTheFormatsOfProviders(t *testing.T) {
	tools := []*sidecall.Tool{
		{Name: "a.b", Description: "d", InputSchema: `{"$schema":"s","properties":{"n":{"maximum":9007199254740993}}}`},
		{Name: "none"},
	}

	chat, err := sidecall.ChatCompletionsTools(tools, nil)
	if err != nil {
		t.Fatal(err)
	}
	responses, err := sidecall.ResponsesTools(tools, nil)
	if err != nil {
		t.Fatal(err)
	}

	schema := `{"properties":{"n":{"maximum":9007199254740993}},"type":"object"}`
	if got := asJSON(t, chat[0]); got !=
		`{"function":{"description":"d","name":"a_b","parameters":`+schema+`},"type":"function"}` {
		t.Error(got)
	}
	if got := asJSON(t, responses[1]); got !=
		`{"description":"","name":"none","parameters":{"properties":{},"type":"object"},"strict":false,"type":"function"}` {
		t.Error(got)
	}
	if _, err := sidecall.ResponsesTools([]*sidecall.Tool{{Name: "a", InputSchema: "["}}, nil); err == nil {
		t.Error("a schema that is no JSON was taken")
	}
}

func blobResult(mediaType, name, data string) *sidecall.ToolResult {
	blob := &sidecallv1.Blob{MediaType: mediaType, Data: []byte(data), Name: name}
	return &sidecall.ToolResult{
		CallId: "c", Name: "draw", Content: "text",
		Parts: []*sidecallv1.ResultPart{{Part: &sidecallv1.ResultPart_Blob{Blob: blob}}},
	}
}

func TestImagesAndFilesFollowTheToolMessages(t *testing.T) {
	results := []*sidecall.ToolResult{
		blobResult("image/png; q=1", "", "\xff\xd8\xff"), blobResult("application/pdf", "secret.pdf", " %PDF-1"),
		blobResult("image/png", "", "no image"), blobResult("application/pdf", "", "no file"),
	}

	messages := sidecall.ChatCompletionsMessages(results, true)

	if len(messages) != 5 || messages[4]["role"] != "user" {
		t.Fatal(asJSON(t, messages))
	}
	got := asJSON(t, messages[4]["content"])
	for _, wanted := range []string{
		sidecall.AttachmentsNote, "Attachment 1 of the result of call c (draw):",
		"data:image/jpeg;base64,/9j/", `"filename":"file.pdf"`,
	} {
		if !strings.Contains(got, wanted) {
			t.Errorf("%s is not in %s", wanted, got)
		}
	}
	if strings.Contains(got, "secret") {
		t.Error("what a tool wrote speaks as the user:", got)
	}
	if strings.Contains(got, "Attachment 3") {
		t.Error("what is no image is shown:", got)
	}
	if messages := sidecall.ChatCompletionsMessages(results, false); len(messages) != 4 {
		t.Error(asJSON(t, messages))
	}
}

func TestOutputsHoldDocuments(t *testing.T) {
	outputs := sidecall.ResponsesOutputs([]*sidecall.ToolResult{
		blobResult("text/csv", "", "x"), blobResult("audio/wav", "a.wav", "x"),
		blobResult("text/plain", "../a\n/b \x01 c.txt", "x"),
	}, true)

	if got := asJSON(t, outputs[0]["output"]); got !=
		`[{"text":"text","type":"input_text"},{"text":"[text/csv, 1 bytes]:","type":"input_text"},`+
			`{"file_data":"data:text/csv;base64,eA==","filename":"file.csv","type":"input_file"}]` {
		t.Error(got)
	}
	if got := asJSON(t, outputs[2]); !strings.Contains(got, `"filename":"b c.txt"`) {
		t.Error(got)
	}
	if outputs[1]["output"] != "text" {
		t.Error(asJSON(t, outputs[1]))
	}
}

func TestWhatAFailedResultSays(t *testing.T) {
	var details []*anypb.Any
	add := func(detail *anypb.Any, err error) {
		if err != nil {
			t.Fatal(err)
		}
		details = append(details, detail)
	}
	add(anypb.New(&errdetails.ErrorInfo{Domain: "else", Reason: "NO"}))
	add(anypb.New(&errdetails.ErrorInfo{Domain: "sidecall.dev", Reason: "ARGUMENTS_INVALID"}))
	add(anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(1500e6)}))
	add(anypb.New(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "/a", Description: "is wrong"},
	}}))
	details = append(details, &anypb.Any{TypeUrl: "type.googleapis.com/unknown.Type"})
	result := &sidecall.ToolResult{Status: &rpcstatus.Status{Code: 3, Details: details}}

	if sidecall.IsOK(result) || sidecall.ReasonOf(result) != sidecall.ReasonArgumentsInvalid {
		t.Error(sidecall.ReasonOf(result))
	}
	if after := sidecall.RetryAfterOf(result); after == nil || after.Milliseconds() != 1500 {
		t.Error(after)
	}
	if got := sidecall.ViolationsOf(result); len(got) != 1 || got[0] != (sidecall.Violation{Field: "/a", Description: "is wrong"}) {
		t.Error(got)
	}
	if ok := (&sidecall.ToolResult{}); !sidecall.IsOK(ok) || sidecall.ReasonOf(ok) != "" || sidecall.RetryAfterOf(ok) != nil {
		t.Error("a result without a status is not OK")
	}
}

func TestCallsAreMadeOfJSONTextAndOfValues(t *testing.T) {
	for wanted, arguments := range map[string]any{
		"": nil, `{"a": 1}`: `{"a": 1}`, `{"b":2}`: json.RawMessage(`{"b":2}`), `{"c":3}`: struct {
			C int `json:"c"`
		}{3},
	} {
		if call, err := sidecall.NewCall("n", arguments); err != nil || call.GetArguments() != wanted {
			t.Error(call, err)
		}
	}
	if _, err := sidecall.NewCall("n", func() {}); err == nil {
		t.Error("a function was made into JSON")
	}
	if call, _ := sidecall.NewCall("n\xff", "\xff"); call.GetName() != "n\uFFFD" {
		t.Error(call)
	}
}

func TestDecisions(t *testing.T) {
	approval, rejection := sidecall.Approve("p", "ann"), sidecall.Reject("p", "bob", "no")

	if approval.GetDecision() != sidecallv1.Decision_DECISION_APPROVE || approval.GetDecidedBy() != "ann" ||
		approval.GetDecideTime() == nil || approval.Arguments != nil {
		t.Error(approval)
	}
	if rejection.GetDecision() != sidecallv1.Decision_DECISION_REJECT || rejection.GetComment() != "no" {
		t.Error(rejection)
	}
}
