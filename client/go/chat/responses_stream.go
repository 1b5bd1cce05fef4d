package chat

import (
	"maps"
	"slices"
)

// eventAssembler puts the events of one streamed answer of the Responses API together.
type eventAssembler struct {
	calls     callSlots
	byOutput  map[int64]*callSlot
	doneItems map[int64]Item
	response  Item
}

func newEventAssembler() *eventAssembler {
	return &eventAssembler{byOutput: map[int64]*callSlot{}, doneItems: map[int64]Item{}}
}

func (a *eventAssembler) feed(event Item) ([]streamPart, error) {
	var parts []streamPart
	place := numberOf(event, "output_index")
	var err error
	switch textOf(event, "type") {
	case "response.output_text.delta":
		parts = append(parts, textPart{textOf(event, "delta"), false})
	case "response.refusal.delta":
		parts = append(parts, textPart{textOf(event, "delta"), true})
	case "response.output_item.added":
		a.begin(place, itemOf(event, "item"))
	case "response.function_call_arguments.delta":
		var slot *callSlot
		if slot, err = a.slot(place); err == nil {
			slot.arguments += textOf(event, "delta")
		}
	case "response.function_call_arguments.done":
		err = a.finishCall(place, jsonTextOf(event, "arguments"))
	case "response.output_item.done":
		err = a.finishItem(place, itemOf(event, "item"))
	case "error":
		err = modelError("the model's stream reports an error: %s", textOf(event, "message"))
	case "response.completed", "response.incomplete", "response.failed":
		a.response = itemOf(event, "response")
	}
	if err != nil {
		return nil, err
	}
	return append(parts, a.calls.report()...), nil
}

func (a *eventAssembler) finish() (*modelTurn, error) {
	if a.response == nil {
		return nil, modelError("the model's stream broke off before its end")
	}
	items := itemsOf(a.response, "output")
	if len(items) == 0 {
		// Some servers leave the output out of the last event.
		for _, place := range slices.Sorted(maps.Keys(a.doneItems)) {
			items = append(items, a.doneItems[place])
		}
	}
	return responsesTurn(a.response, items)
}

func (a *eventAssembler) begin(place int64, item Item) {
	if isCall(item) {
		a.byOutput[place] = a.calls.add(modelCall{
			id:     textOf(item, "call_id"),
			name:   textOf(item, "name"),
			custom: textOf(item, "type") != "function_call",
		})
	}
}

func (a *eventAssembler) slot(place int64) (*callSlot, error) {
	slot := a.byOutput[place]
	if slot == nil {
		return nil, modelError("the model's stream never began its output %d", place)
	}
	return slot, nil
}

func (a *eventAssembler) finishCall(place int64, arguments string) error {
	slot, err := a.slot(place)
	if err != nil {
		return err
	}
	slot.arguments, slot.done = arguments, true
	return nil
}

func (a *eventAssembler) finishItem(place int64, item Item) error {
	a.doneItems[place] = item
	if !isCall(item) || textOf(item, "status") == "incomplete" {
		return nil
	}
	if a.byOutput[place] == nil {
		a.begin(place, item)
	}
	return a.finishCall(place, jsonTextOf(item, "arguments"))
}
