package chat

import (
	"maps"
	"slices"
	"sync"

	"sidecall.dev/go"
)

// turnRecord is a model's turn in the history, its answers filled in as results arrive. The
// turn and provisional answers to all of its calls enter the history in one step, so whatever
// interrupts the turn leaves a history that a provider accepts.
type turnRecord struct {
	mu          sync.Mutex
	dialect     dialect
	attachments bool
	calls       *turnCalls
	history     *[]Item
	results     map[int]*sidecall.ToolResult
	answers     map[int]*openAnswer // By index of the call; those that depend on no result are left out.
	open        map[*openAnswer]bool
	lastAnswer  int // Its place in the history.
	// attached is what the message after the answers holds, by index of the first call.
	attached    map[int][]Item
	hasAttached bool
}

type openAnswer struct {
	answeredCall
	item Item
}

func newTurnRecord(history *[]Item, d dialect, turn *modelTurn, calls *turnCalls, attachments bool) *turnRecord {
	r := &turnRecord{
		dialect: d, attachments: attachments, calls: calls, history: history,
		results:  map[int]*sidecall.ToolResult{},
		answers:  map[int]*openAnswer{},
		open:     map[*openAnswer]bool{},
		attached: map[int][]Item{},
	}
	var ids []string
	var items []Item
	for _, answered := range calls.answered {
		ids = append(ids, answered.id)
		content, known := calls.contentOf(answered, nil)
		if !known {
			content = textPending
		}
		answer := &openAnswer{answered, d.answer(answered.call, answered.id, content)}
		items = append(items, answer.item)
		if known {
			continue
		}
		r.open[answer] = true
		for index := range answered.count {
			r.answers[answered.first+index] = answer
		}
	}
	d.setCallIDs(turn.items, ids)
	*history = slices.Concat(*history, turn.items, items)
	r.lastAnswer = len(*history) - 1
	return r
}

// addResult takes in a call's result, in place of an earlier one, and fills in its answer.
func (r *turnRecord) addResult(index int, result *sidecall.ToolResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[index] = result
	answer := r.answers[index]
	if answer == nil {
		return
	}
	content, known := r.calls.contentOf(answer.answeredCall, r.results)
	if !known {
		return
	}
	var results []*sidecall.ToolResult
	for place := range answer.count {
		if result := r.results[answer.first+place]; result != nil {
			results = append(results, result)
		}
	}
	r.write(answer, content, results)
	delete(r.open, answer)
}

// reopen makes answers provisional again: their calls are about to be run.
func (r *turnRecord) reopen(indexes []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, index := range indexes {
		if answer := r.answers[index]; answer != nil {
			r.write(answer, textPending, nil)
			r.open[answer] = true
		}
	}
}

// fail answers all calls that have no answer yet with the same content.
func (r *turnRecord) fail(content string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for answer := range r.open {
		r.write(answer, content, nil)
	}
	clear(r.open)
}

// known returns the results so far.
func (r *turnRecord) known() map[int]*sidecall.ToolResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.results)
}

func (r *turnRecord) write(answer *openAnswer, content string, results []*sidecall.ToolResult) {
	var shown []*sidecall.ToolResult
	if r.attachments {
		shown = slices.DeleteFunc(slices.Clone(results), func(result *sidecall.ToolResult) bool {
			return len(result.GetParts()) == 0
		})
	}
	r.dialect.setContent(answer.item, content, shown)
	parts := r.dialect.attachedParts(answer.id, shown)
	if _, had := r.attached[answer.first]; len(parts) > 0 || had {
		r.attached[answer.first] = parts
		r.attach()
	}
}

// attach keeps the message that follows the answers up to date, in call order.
func (r *turnRecord) attach() {
	var parts []Item
	for _, first := range slices.Sorted(maps.Keys(r.attached)) {
		parts = append(parts, r.attached[first]...)
	}
	place := r.lastAnswer + 1
	switch {
	case !r.hasAttached && len(parts) > 0:
		*r.history = slices.Insert(*r.history, place, sidecall.AttachedMessage(parts))
	case r.hasAttached && len(parts) > 0:
		(*r.history)[place] = sidecall.AttachedMessage(parts)
	case r.hasAttached:
		*r.history = slices.Delete(*r.history, place, place+1)
	}
	r.hasAttached = len(parts) > 0
}

// answerOpenCalls answers calls that an earlier interruption left without an answer.
func answerOpenCalls(history []Item, d dialect) []Item {
	for _, open := range slices.Backward(d.openCalls(history)) {
		history = slices.Insert(history, open.place, d.answer(open.call, open.call.id, textPending))
	}
	return history
}
