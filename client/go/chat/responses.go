package chat

import (
	"context"

	"github.com/openai/openai-go/v3/packages/param"
	openairesponses "github.com/openai/openai-go/v3/responses"
	"sidecall.dev/go"
)

// responses writes and reads conversations of the Responses API. The history holds all items of
// a turn, reasoning included, so that it can be sent whole each time, whether or not the
// provider stores it.
type responses struct{}

func (responses) request(
	history []Item, tools []*sidecall.Tool, names *sidecall.ToolNames, o *Options,
) (Item, error) {
	offered, err := sidecall.ResponsesTools(tools, names)
	if err != nil {
		return nil, err
	}
	body, err := requestOf(o, offered)
	if err != nil {
		return nil, err
	}
	body["input"] = history
	if hint := o.hint(); hint != "" {
		if given := textOf(body, "instructions"); given != "" {
			hint = given + "\n\n" + hint
		}
		body["instructions"] = hint
	}
	return body, nil
}

func (responses) create(ctx context.Context, p provider, body Item) (Item, error) {
	text, err := bodyOf(body)
	if err != nil {
		return nil, err
	}
	params := param.Override[openairesponses.ResponseNewParams](text)
	return readAnswer(p.client.Responses.New(ctx, params, p.options...))
}

func (responses) open(ctx context.Context, p provider, body Item) eventStream {
	text, err := bodyOf(body)
	if err != nil {
		return failedStream{err}
	}
	params := param.Override[openairesponses.ResponseNewParams](text)
	return &rawStream[openairesponses.ResponseStreamEventUnion]{
		stream: p.client.Responses.NewStreaming(ctx, params, p.options...),
	}
}

func (responses) parse(answer Item) (*modelTurn, error) {
	return responsesTurn(answer, itemsOf(answer, "output"))
}

func (responses) assembler() assembler { return newEventAssembler() }

func isCall(item Item) bool {
	return textOf(item, "type") == "function_call" || textOf(item, "type") == "custom_tool_call"
}

func isOutput(item Item) bool {
	kind := textOf(item, "type")
	return kind == "function_call_output" || kind == "custom_tool_call_output"
}

func (responses) setCallIDs(items []Item, ids []string) {
	for _, item := range items {
		if isCall(item) {
			item["call_id"], ids = ids[0], ids[1:]
		}
	}
}

func (responses) answer(call modelCall, id, content string) Item {
	kind := "function_call_output"
	if call.custom {
		kind = "custom_tool_call_output"
	}
	return Item{"type": kind, "call_id": id, "output": content}
}

func (responses) setContent(answer Item, content string, results []*sidecall.ToolResult) {
	answer["output"] = sidecall.ResponsesOutput(content, results...)
}

func (responses) attachedParts(string, []*sidecall.ToolResult) []Item { return nil }

func (responses) callIDs(history []Item) map[string]bool {
	ids := map[string]bool{}
	for _, item := range history {
		if isCall(item) {
			ids[textOf(item, "call_id")] = true
		}
	}
	return ids
}

func (responses) openCalls(history []Item) []openCall {
	answered := map[string]bool{}
	for _, item := range history {
		if isOutput(item) {
			answered[textOf(item, "call_id")] = true
		}
	}
	var found []openCall
	for index, item := range history {
		if isCall(item) && !answered[textOf(item, "call_id")] {
			found = append(found, openCall{index + 1, responsesCall(item)})
		}
	}
	return found
}

func responsesTurn(response Item, items []Item) (*modelTurn, error) {
	status := textOf(response, "status")
	if status == "failed" || status == "cancelled" {
		return nil, modelError("the model's answer %s: %v", status, response["error"])
	}
	usage := itemOf(response, "usage")
	turn := &modelTurn{
		text:    contentsOf(items, "output_text", "text"),
		refusal: contentsOf(items, "refusal", "refusal"),
		end:     Completed,
		usage:   Usage{numberOf(usage, "input_tokens"), numberOf(usage, "output_tokens")},
	}
	for _, item := range items {
		if isCall(item) {
			turn.calls = append(turn.calls, responsesCall(item))
		}
		if textOf(item, "type") == "function_call" && item["arguments"] == nil {
			item["arguments"] = ""
		}
	}
	if turn.refusal != "" && len(turn.calls) == 0 {
		turn.end = Refusal
	}
	if status == "incomplete" {
		turn.end = Length
		if textOf(itemOf(response, "incomplete_details"), "reason") == "content_filter" {
			turn.end = ContentFilter
		}
		// Reasoning that led to nothing is refused in later requests.
		for len(items) > 0 && textOf(items[len(items)-1], "type") == "reasoning" {
			items = items[:len(items)-1]
		}
	}
	turn.items = items
	return turn, nil
}

func contentsOf(items []Item, kind, key string) string {
	var text string
	for _, item := range items {
		if textOf(item, "type") != "message" {
			continue
		}
		for _, part := range itemsOf(item, "content") {
			if textOf(part, "type") == kind {
				text += textOf(part, key)
			}
		}
	}
	return text
}

func responsesCall(item Item) modelCall {
	return modelCall{
		id:        textOf(item, "call_id"),
		name:      textOf(item, "name"),
		arguments: jsonTextOf(item, "arguments"),
		custom:    textOf(item, "type") != "function_call",
	}
}
