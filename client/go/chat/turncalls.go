package chat

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"sidecall.dev/go"
)

// OpenAI refuses ids over 40 characters.
const idStem = 32

// refusedCall is a call that is not run.
type refusedCall struct {
	name string // Of the tool that the model meant.
	why  string // What the model is told.
}

// answeredCall is a call of the model and the calls of the batch that stand for it.
type answeredCall struct {
	call  modelCall
	id    string // In the history: never empty and unique.
	first int    // Index of the first of its calls in the batch.
	count int    // How many calls it stands for.
	wraps bool   // Then its answer is a JSON list.
}

// turnCalls collects the calls of one turn as the model finishes them.
//
// The batch has one call for each that the model made, in the model's order, so that "@N" in a
// reference is the Nth call as the model counts them. A multi_tool_use.parallel counts as the
// calls that it wraps, in its place; one that cannot be read counts as one call. A call that is
// refused here keeps its place: the sidecar is given a call of no tool instead, which fails
// there as TOOL_NOT_FOUND.
type turnCalls struct {
	names       *sidecall.ToolNames
	prefix      string          // Of ids that are minted.
	taken       map[string]bool // Ids of earlier calls.
	offeredOnly bool
	refused     map[int]refusedCall
	answered    []answeredCall
	batch       []*sidecall.ToolCall
}

// add takes a call in.
func (t *turnCalls) add(call modelCall) {
	id := t.uniqueID(call)
	first := len(t.batch)
	uses, wraps := t.toolUses(call)
	if wraps {
		for i, use := range uses {
			name, arguments, refusal := readUse(use)
			t.append(name, arguments, fmt.Sprintf("%s_%d", id, i+1), refusal)
		}
	} else {
		// A repeated id goes to the sidecar as it is, where a reference to it is an error; under
		// another id the reference would silently mean the wrong call.
		given := call.id
		if given == "" {
			given = id
		}
		refusal := ""
		if call.custom {
			refusal = textNotSupported
		}
		t.append(call.name, call.arguments, given, refusal)
	}
	t.answered = append(t.answered, answeredCall{call, id, first, len(t.batch) - first, wraps})
}

func (t *turnCalls) append(name, arguments, id, refusal string) {
	tool := t.names.ToTool(name)
	if refusal == "" && t.offeredOnly && !t.names.Has(tool) {
		refusal = textNotOffered(tool, t.names.ProviderNames())
	}
	if refusal != "" {
		t.refused[len(t.batch)] = refusedCall{tool, refusal}
		tool, arguments = "", ""
	}
	t.batch = append(t.batch, &sidecall.ToolCall{Id: id, Name: tool, Arguments: arguments})
}

func (t *turnCalls) uniqueID(call modelCall) string {
	id := call.id
	if id == "" {
		id = fmt.Sprintf("%s_%d", t.prefix, len(t.answered))
	}
	candidate := id
	for repeat := 2; t.taken[candidate]; repeat++ {
		stem := []rune(id)
		candidate = fmt.Sprintf("%s_%d", string(stem[:min(idStem, len(stem))]), repeat)
	}
	t.taken[candidate] = true
	return candidate
}

// toolUses returns what a wrapper wraps; not ok: it is an ordinary call.
func (t *turnCalls) toolUses(call modelCall) (uses []json.RawMessage, ok bool) {
	isWrapper := call.name == "multi_tool_use.parallel" || call.name == "multi_tool_use_parallel"
	if !isWrapper || t.names.Has(t.names.ToTool(call.name)) {
		return nil, false
	}
	// A map, for a struct would take members of other case.
	var arguments map[string]json.RawMessage
	if json.Unmarshal([]byte(call.arguments), &arguments) != nil {
		return nil, false
	}
	if json.Unmarshal(arguments["tool_uses"], &uses) != nil || uses == nil {
		return nil, false
	}
	return uses, true
}

// readUse returns name, arguments and refusal of a wrapped call.
func readUse(use json.RawMessage) (name, arguments, refusal string) {
	var members map[string]json.RawMessage
	var recipient *string
	if json.Unmarshal(use, &members) != nil ||
		json.Unmarshal([]byte(escapeSurrogates(string(members["recipient_name"]))), &recipient) != nil ||
		recipient == nil {
		return "", "", textNoRecipient
	}
	parameters := strings.TrimSpace(string(members["parameters"]))
	switch parameters {
	case "", "null", "false", "0", `""`, "[]":
		return *recipient, "{}", ""
	}
	var text string
	if json.Unmarshal([]byte(parameters), &text) == nil {
		return *recipient, text, "" // The arguments, as JSON text in JSON.
	}
	return *recipient, parameters, ""
}

// settle returns what a call came to: the sidecar's result, or why it was refused here.
func settle(refused map[int]refusedCall, index int, result *sidecall.ToolResult) *sidecall.ToolResult {
	refusal, is := refused[index]
	if !is {
		return result
	}
	settled := proto.CloneOf(result)
	settled.Name, settled.Content = refusal.name, refusal.why
	if settled.Status != nil {
		settled.Status.Message = refusal.why
	}
	return settled
}

// contentOf returns the answer to a call; not ok while a result is missing.
func (t *turnCalls) contentOf(a answeredCall, results map[int]*sidecall.ToolResult) (string, bool) {
	var entries []string
	for index := a.first; index < a.first+a.count; index++ {
		name, content := "", ""
		if refusal, is := t.refused[index]; is {
			name, content = refusal.name, refusal.why
		} else if result := results[index]; result != nil {
			name, content = result.GetName(), result.GetContent()
		} else {
			return "", false
		}
		if !a.wraps {
			return content, true
		}
		entries = append(entries, fmt.Sprintf(
			`{"recipient_name": %s, "content": %s}`, jsonString(name), jsonString(content)))
	}
	return "[" + strings.Join(entries, ", ") + "]", true
}
