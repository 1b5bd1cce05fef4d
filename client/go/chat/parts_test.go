package chat

import (
	"encoding/json"
	"testing"

	"sidecall.dev/go"
)

func TestLoneSurrogatesBecomeText(t *testing.T) {
	for given, wanted := range map[string]string{
		`{"t":"\ud83d\ude00"}`:       "😀",
		`{"t":"a\ud83db"}`:           `a\ud83db`,
		`{"t":"\ude00\ud83d"}`:       `\ude00\ud83d`,
		`{"t":"\\ud83d"}`:            `\ud83d`,
		`{"t":"\ud83d\ud83d\ude00"}`: `\ud83d😀`,
		`{"t":"\u00e9 and \n"}`:      "é and \n",
		`{"t":"\ud83d"}`:             `\ud83d`,
	} {
		item, err := decodeItem(given)
		if err != nil || textOf(item, "t") != wanted {
			t.Errorf("%s became %q: %v", given, textOf(item, "t"), err)
		}
	}
}

func TestNumbersKeepTheirDigitsAndNullsAreDropped(t *testing.T) {
	item, err := decodeItem(`{"n":9007199254740993,"a":null,"o":{"b":null,"c":[{"d":null}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(item); string(text) != `{"n":9007199254740993,"o":{"c":[{}]}}` {
		t.Error(string(text))
	}
}

func callsOf(offeredOnly bool) *turnCalls {
	names := sidecall.NewToolNames([]*sidecall.Tool{{Name: "echo"}, {Name: "clock.now"}})
	return &turnCalls{
		names: names, prefix: "call_1", taken: map[string]bool{"old": true},
		offeredOnly: offeredOnly, refused: map[int]refusedCall{},
	}
}

func TestIDsInTheHistoryAreUnique(t *testing.T) {
	calls := callsOf(false)
	for _, id := range []string{"old", "", "new", "new"} {
		calls.add(modelCall{id: id, name: "echo"})
	}

	var ids, sent []string
	for i, answered := range calls.answered {
		ids, sent = append(ids, answered.id), append(sent, calls.batch[i].GetId())
	}
	if got, _ := json.Marshal([][]string{ids, sent}); string(got) !=
		`[["old_2","call_1_1","new","new_2"],["old","call_1_1","new","new"]]` {
		t.Error(string(got))
	}
}

func TestAWrapperIsUnwrappedAndAnsweredAsAList(t *testing.T) {
	calls := callsOf(false)
	calls.add(modelCall{id: "w", name: "multi_tool_use.parallel", arguments: `{"tool_uses":[
		{"recipient_name":"functions.echo","parameters":{"n": 1}},
		{"recipient_name":"clock_now","parameters":"{}"},
		{"parameters":{}}]}`})

	if len(calls.batch) != 3 || calls.batch[0].GetArguments() != `{"n": 1}` ||
		calls.batch[1].GetName() != "clock.now" || calls.batch[2].GetName() != "" || calls.batch[2].GetId() != "w_3" {
		t.Fatal(calls.batch)
	}
	results := map[int]*sidecall.ToolResult{0: {Name: "echo", Content: "\"é\u2028<\x01"}}
	if _, known := calls.contentOf(calls.answered[0], results); known {
		t.Error("an answer is known although a result is missing")
	}
	results[1] = &sidecall.ToolResult{Name: "clock.now", Content: "now"}
	content, _ := calls.contentOf(calls.answered[0], results)
	if wanted := `[{"recipient_name": "echo", "content": "\"é` + "\u2028" + `<\u0001"}, ` +
		`{"recipient_name": "clock.now", "content": "now"}, {"recipient_name": "", "content": "` +
		textNoRecipient + `"}]`; content != wanted {
		t.Error(content)
	}
}

func TestWhatIsNoWrapperIsAnOrdinaryCall(t *testing.T) {
	for _, arguments := range []string{"", "[]", `{"tool_uses":{}}`, `{"tool_uses":null}`, `{"TOOL_USES":[]}`} {
		calls := callsOf(false)
		calls.add(modelCall{id: "w", name: "multi_tool_use.parallel", arguments: arguments})
		if len(calls.batch) != 1 || calls.answered[0].wraps {
			t.Errorf("%s was unwrapped", arguments)
		}
	}
}

func TestToolsThatAreNotOfferedAreNotRun(t *testing.T) {
	calls := callsOf(true)
	calls.add(modelCall{id: "a", name: "it's"})
	calls.add(modelCall{id: "b", name: "echo", custom: true})

	content, _ := calls.contentOf(calls.answered[0], nil)
	if content != `NOT RUN: there is no tool "it's". The tools are: clock_now, echo.` {
		t.Error(content)
	}
	if content, _ := calls.contentOf(calls.answered[1], nil); content != textNotSupported {
		t.Error(content)
	}
	settled := settle(calls.refused, 0, &sidecall.ToolResult{Content: "x"})
	if settled.GetContent() != content || settled.GetName() != "it's" {
		t.Error(settled)
	}
}

func TestNamesAreQuotedAlikeInAllLanguages(t *testing.T) {
	for given, wanted := range map[string]string{
		"a": "'a'", `a'`: `"a'"`, `a'"`: `'a\'"'`, "a\n\\": `'a\n\\'`, "\x00é\u200b": `'\x00é\u200b'`,
	} {
		if got := quoted(given); got != wanted {
			t.Errorf("%q became %s", given, got)
		}
	}
}

func TestACallIsReportedWhenTheNextOneBegins(t *testing.T) {
	a := newChunkAssembler()
	feed := func(delta string) []streamPart {
		chunk, err := decodeItem(`{"choices":[{"delta":` + delta + `}]}`)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := a.feed(chunk)
		if err != nil {
			t.Fatal(err)
		}
		return parts
	}

	first := feed(`{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}`)
	second := feed(`{"tool_calls":[{"index":1,"id":"b","function":{"name":"g"}}]}`)
	late := feed(`{"tool_calls":[{"index":0,"function":{"arguments":" "}}]}`)

	if len(first) != 0 || len(second) != 1 || second[0] != (callDone{modelCall{id: "a", name: "f", arguments: "{}"}}) {
		t.Error(first, second)
	}
	if len(late) != 1 || late[0] != (callReopened{}) {
		t.Error(late)
	}
	if _, err := a.finish(); err == nil {
		t.Error("a stream without an end was taken")
	}
}
