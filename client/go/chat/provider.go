package chat

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
)

// provider is the openai-go library with what is passed on to it.
type provider struct {
	client  openai.Client
	options []option.RequestOption
}

// eventStream is a streamed answer, as JSON.
type eventStream interface {
	next() (Item, bool, error)
	close()
}

type rawEvent interface{ RawJSON() string }

type rawStream[E rawEvent] struct {
	stream *ssestream.Stream[E]
	begun  bool
}

func (s *rawStream[E]) next() (Item, bool, error) {
	if !s.stream.Next() {
		err := s.stream.Err()
		var reported *ssestream.StreamError
		if err != nil && s.begun && !errors.As(err, &reported) {
			err = &ModelError{Message: fmt.Sprintf("the model's stream broke off: %v", err), cause: err}
		}
		return nil, false, err
	}
	s.begun = true
	event, err := decodeItem(s.stream.Current().RawJSON())
	if err != nil {
		return nil, false, modelError("the model's stream holds what is no JSON object: %v", err)
	}
	return event, true, nil
}

func (s *rawStream[E]) close() { _ = s.stream.Close() } // All that matters was read before.

// bodyOf writes a request. The library's types would lose what they do not know.
func bodyOf(body Item) (json.RawMessage, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("chat: the request has no JSON form: %w", err)
	}
	return text, nil
}

func readAnswer(answer rawEvent, err error) (Item, error) {
	if err != nil {
		return nil, err
	}
	item, err := decodeItem(answer.RawJSON())
	if err != nil {
		return nil, modelError("the model's answer is no JSON object: %v", err)
	}
	return item, nil
}

// failedStream is a stream that could not be asked for.
type failedStream struct{ err error }

func (s failedStream) next() (Item, bool, error) { return nil, false, s.err }
func (failedStream) close()                      {}
