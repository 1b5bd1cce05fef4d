package chat

import "maps"

// callSlot is a call that the model is writing.
type callSlot struct {
	modelCall
	extra    Item
	done     bool
	reported *modelCall
}

// callSlots are the calls of one streamed turn, in the order in which the model began them. A
// call is reported once it and all before it are done, so that calls are reported in the order
// that they have in the turn.
type callSlots struct {
	slots    []*callSlot
	reopened bool
}

func (s *callSlots) add(call modelCall) *callSlot {
	slot := &callSlot{modelCall: call, extra: Item{}}
	s.slots = append(s.slots, slot)
	return slot
}

func (s *callSlots) finishAll() {
	for _, slot := range s.slots {
		slot.done = true
	}
}

// report returns what is new. After a call was reopened, nothing is reported any more.
func (s *callSlots) report() []streamPart {
	var parts []streamPart
	if s.reopened {
		return nil
	}
	for _, slot := range s.slots {
		switch {
		case slot.reported != nil:
			if *slot.reported != slot.modelCall {
				s.reopened = true
				return append(parts, callReopened{})
			}
		case slot.done:
			call := slot.modelCall
			slot.reported = &call
			parts = append(parts, callDone{call})
		default:
			return parts
		}
	}
	return parts
}

// mergeExtra adds a provider's own members of a delta: texts grow, other values are replaced.
// known are those that are no extra.
func mergeExtra(target, extra Item, known ...string) {
	extra = maps.Clone(extra)
	for _, key := range known {
		delete(extra, key)
	}
	for key, value := range extra {
		present := target[key]
		if text, ok := value.(string); ok {
			if before, ok := present.(string); ok {
				target[key] = before + text
				continue
			}
		}
		if object, ok := value.(map[string]any); ok {
			if before, ok := present.(map[string]any); ok {
				mergeExtra(before, object)
				continue
			}
			value = maps.Clone(object)
		}
		if value != nil {
			target[key] = value
		}
	}
}
