package chat

import (
	"context"
	"maps"
	"slices"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"
	"sidecall.dev/go"
)

// chatCompletions writes and reads conversations of the Chat Completions API.
type chatCompletions struct{}

func (chatCompletions) request(
	history []Item, tools []*sidecall.Tool, names *sidecall.ToolNames, o *Options,
) (Item, error) {
	offered, err := sidecall.ChatCompletionsTools(tools, names)
	if err != nil {
		return nil, err
	}
	body, err := requestOf(o, offered)
	if err != nil {
		return nil, err
	}
	body["messages"] = withHint(history, o.hint())
	if _, given := body["stream_options"]; o.Stream && !given {
		body["stream_options"] = Item{"include_usage": true}
	}
	return body, nil
}

func requestOf(o *Options, offered []Item) (Item, error) {
	body := maps.Clone(o.Request)
	if body == nil {
		body = Item{}
	}
	body["model"] = o.Model
	all := make([]any, 0, len(offered))
	for _, tool := range offered {
		all = append(all, tool)
	}
	own, err := o.ownTools()
	if err != nil {
		return nil, err
	}
	if all = append(all, own...); len(all) > 0 {
		body["tools"] = all
	}
	return body, nil
}

func withHint(history []Item, hint string) []Item {
	if hint == "" {
		return history
	}
	// Merged into the first message where that instructs already: many models' templates allow
	// one such message only.
	if len(history) > 0 && slices.Contains([]string{"system", "developer"}, textOf(history[0], "role")) {
		first := Item{"role": history[0]["role"]}
		if content, ok := history[0]["content"].(string); ok {
			first["content"] = content + "\n\n" + hint
		} else {
			parts := slices.Clone(itemsOf(history[0], "content"))
			first["content"] = append(parts, Item{"type": "text", "text": hint})
		}
		return append([]Item{first}, history[1:]...)
	}
	return append([]Item{{"role": "system", "content": hint}}, history...)
}

func (chatCompletions) create(ctx context.Context, p provider, body Item) (Item, error) {
	text, err := bodyOf(body)
	if err != nil {
		return nil, err
	}
	params := param.Override[openai.ChatCompletionNewParams](text)
	return readAnswer(p.client.Chat.Completions.New(ctx, params, p.options...))
}

func (chatCompletions) open(ctx context.Context, p provider, body Item) eventStream {
	text, err := bodyOf(body)
	if err != nil {
		return failedStream{err}
	}
	params := param.Override[openai.ChatCompletionNewParams](text)
	return &rawStream[openai.ChatCompletionChunk]{
		stream: p.client.Chat.Completions.NewStreaming(ctx, params, p.options...),
	}
}

func (chatCompletions) parse(answer Item) (*modelTurn, error) {
	choices := itemsOf(answer, "choices")
	if len(choices) == 0 {
		return nil, modelError("the model's answer holds no choice: %v", answer["error"])
	}
	message := itemOf(choices[0], "message")
	if message == nil {
		return nil, modelError("the model's answer holds no message")
	}
	return completionsTurn(message, choices[0]["finish_reason"], usageOf(answer)), nil
}

func (chatCompletions) assembler() assembler { return newChunkAssembler() }

func (chatCompletions) setCallIDs(items []Item, ids []string) {
	for i, call := range itemsOf(items[0], "tool_calls") {
		call["id"] = ids[i]
	}
}

func (chatCompletions) answer(_ modelCall, id, content string) Item {
	return Item{"role": "tool", "tool_call_id": id, "content": content}
}

func (chatCompletions) setContent(answer Item, content string, _ []*sidecall.ToolResult) {
	answer["content"] = content
}

func (chatCompletions) attachedParts(id string, results []*sidecall.ToolResult) []Item {
	return sidecall.AttachedParts(id, results...)
}

func (chatCompletions) callIDs(history []Item) map[string]bool {
	ids := map[string]bool{}
	for _, message := range history {
		for _, call := range itemsOf(message, "tool_calls") {
			ids[textOf(call, "id")] = true
		}
	}
	return ids
}

func (chatCompletions) openCalls(history []Item) []openCall {
	var found []openCall
	for index, message := range history {
		calls := itemsOf(message, "tool_calls")
		if textOf(message, "role") != "assistant" || len(calls) == 0 {
			continue
		}
		// Only the tool messages right after it answer them.
		answered := map[string]bool{}
		end := index + 1
		for ; end < len(history) && textOf(history[end], "role") == "tool"; end++ {
			answered[textOf(history[end], "tool_call_id")] = true
		}
		for _, call := range calls {
			if id := textOf(call, "id"); !answered[id] {
				found = append(found, openCall{end, modelCall{id: id}})
			}
		}
	}
	return found
}

func completionsTurn(message Item, finishReason any, usage Usage) *modelTurn {
	delete(message, "annotations")
	delete(message, "function_call")
	if audio := itemOf(message, "audio"); audio != nil {
		message["audio"] = Item{"id": audio["id"]}
	}
	turn := &modelTurn{
		text: textOf(message, "content"), refusal: textOf(message, "refusal"), usage: usage,
	}
	for _, call := range itemsOf(message, "tool_calls") {
		turn.calls = append(turn.calls, completionsCall(call))
	}
	if len(turn.calls) == 0 {
		delete(message, "tool_calls")
	}
	turn.end = Completed
	switch {
	case finishReason == "length":
		turn.end = Length
	case finishReason == "content_filter":
		turn.end = ContentFilter
	case turn.refusal != "" && len(turn.calls) == 0:
		turn.end = Refusal
	}
	// An answer without calls must have content; beside calls some providers refuse "".
	switch {
	case turn.text != "":
	case len(turn.calls) > 0 || turn.refusal != "":
		message["content"] = nil
	default:
		message["content"] = ""
	}
	turn.items = []Item{message}
	return turn
}

func completionsCall(call Item) modelCall {
	function := itemOf(call, "function")
	if function == nil {
		return modelCall{id: textOf(call, "id"), custom: true}
	}
	if function["arguments"] == nil {
		function["arguments"] = ""
	}
	return modelCall{
		id:        textOf(call, "id"),
		name:      textOf(function, "name"),
		arguments: jsonTextOf(function, "arguments"),
	}
}

func usageOf(answer Item) Usage {
	usage := itemOf(answer, "usage")
	return Usage{numberOf(usage, "prompt_tokens"), numberOf(usage, "completion_tokens")}
}
