package chat

// chunkAssembler puts the chunks of one streamed answer of Chat Completions together.
type chunkAssembler struct {
	text, refusal string
	extra         Item
	calls         callSlots
	byIndex       map[int64]*callSlot
	finishReason  any
	usage         Usage
}

// noIndex stands for the index of calls that have none.
const noIndex = -1

func newChunkAssembler() *chunkAssembler {
	return &chunkAssembler{extra: Item{}, byIndex: map[int64]*callSlot{}}
}

func (a *chunkAssembler) feed(chunk Item) ([]streamPart, error) {
	if itemOf(chunk, "usage") != nil {
		a.usage = usageOf(chunk)
	}
	var parts []streamPart
	for _, choice := range itemsOf(chunk, "choices") {
		if numberOf(choice, "index") != 0 {
			continue // Other choices than the first are nobody's turn.
		}
		if delta := itemOf(choice, "delta"); delta != nil {
			parts = append(parts, a.feedDelta(delta)...)
		}
		if reason := choice["finish_reason"]; reason != nil {
			a.finishReason = reason
			if reason != "length" && reason != "content_filter" {
				a.calls.finishAll()
			}
		}
	}
	return append(parts, a.calls.report()...), nil
}

func (a *chunkAssembler) feedDelta(delta Item) []streamPart {
	var parts []streamPart
	if text := textOf(delta, "content"); text != "" {
		a.text += text
		parts = append(parts, textPart{text, false})
	}
	if text := textOf(delta, "refusal"); text != "" {
		a.refusal += text
		parts = append(parts, textPart{text, true})
	}
	mergeExtra(a.extra, delta, "content", "refusal", "role", "tool_calls", "function_call")
	for _, call := range itemsOf(delta, "tool_calls") {
		a.feedCall(call)
	}
	return parts
}

func (a *chunkAssembler) feedCall(delta Item) {
	index := int64(noIndex)
	if _, has := delta["index"]; has {
		index = numberOf(delta, "index")
	}
	id := textOf(delta, "id")
	slot := a.byIndex[index]
	// Some providers give every call of a turn the same index; a new id tells them apart.
	if slot == nil || (id != "" && slot.id != "" && id != slot.id) {
		a.calls.finishAll()
		slot = a.calls.add(modelCall{})
		a.byIndex[index] = slot
	}
	if slot.id == "" {
		slot.id = id
	}
	function := itemOf(delta, "function")
	if slot.name == "" {
		slot.name = textOf(function, "name")
	}
	slot.arguments += jsonTextOf(function, "arguments")
	mergeExtra(slot.extra, delta, "index", "id", "function", "type")
}

func (a *chunkAssembler) finish() (*modelTurn, error) {
	if a.finishReason == nil {
		return nil, modelError("the model's stream broke off before its end")
	}
	message := Item{"role": "assistant", "content": a.text}
	mergeExtra(message, a.extra)
	if a.refusal != "" {
		message["refusal"] = a.refusal
	}
	var calls []any
	for _, slot := range a.calls.slots {
		call := Item{
			"id": slot.id, "type": "function",
			"function": Item{"name": slot.name, "arguments": slot.arguments},
		}
		for key, value := range slot.extra {
			call[key] = value
		}
		calls = append(calls, call)
	}
	message["tool_calls"] = calls
	return completionsTurn(message, a.finishReason, a.usage), nil
}
