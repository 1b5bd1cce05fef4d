package chat

import (
	"context"
	"fmt"

	"sidecall.dev/go"
)

// ModelError is an answer of the model that broke off, reports an error or cannot be read.
// Nothing of it was kept.
type ModelError struct {
	// Message says what was wrong with it.
	Message string
	cause   error
}

// Error returns the message.
func (e *ModelError) Error() string { return "chat: " + e.Message }

// Unwrap returns the error of the provider's library, if any.
func (e *ModelError) Unwrap() error { return e.cause }

func modelError(format string, values ...any) *ModelError {
	return &ModelError{Message: fmt.Sprintf(format, values...)}
}

// dialect is how one of the provider's APIs writes conversations.
type dialect interface {
	// request returns the body of the request, but for "stream".
	request(history []Item, tools []*sidecall.Tool, names *sidecall.ToolNames, o *Options) (Item, error)
	// create asks the model and returns its answer.
	create(ctx context.Context, p provider, body Item) (Item, error)
	// open asks the model for a streamed answer.
	open(ctx context.Context, p provider, body Item) eventStream
	// parse reads an answer that was not streamed.
	parse(answer Item) (*modelTurn, error)
	// assembler returns what puts one streamed answer together.
	assembler() assembler
	// setCallIDs gives the calls of a turn's items these ids, in order.
	setCallIDs(items []Item, ids []string)
	// answer returns the item that answers a call.
	answer(call modelCall, id, content string) Item
	// setContent replaces the content of an answer, with images and files where it can.
	setContent(answer Item, content string, results []*sidecall.ToolResult)
	// attachedParts returns the images and files that an answer cannot hold.
	attachedParts(id string, results []*sidecall.ToolResult) []Item
	// callIDs returns the ids of all calls.
	callIDs(history []Item) map[string]bool
	// openCalls finds calls without an answer, each with the place to insert one at.
	openCalls(history []Item) []openCall
}

type openCall struct {
	place int
	call  modelCall
}

// assembler puts a streamed turn together.
type assembler interface {
	// feed takes an event in and returns what it brought.
	feed(event Item) ([]streamPart, error)
	// finish returns the whole turn after the last event.
	finish() (*modelTurn, error)
}
