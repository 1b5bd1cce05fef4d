package sidecall

import (
	"encoding/json"
	"fmt"
	"strings"
)

// NewCall makes a call of a tool. arguments is JSON text, as a string, a []byte or a
// json.RawMessage, or any other value, which is made into JSON; nil means {}. It fails where
// the value has no JSON form.
func NewCall(name string, arguments any) (*ToolCall, error) {
	text, err := argumentsText(arguments)
	if err != nil {
		return nil, fmt.Errorf("sidecall: arguments of %s: %w", name, err)
	}
	return &ToolCall{Name: validText(name), Arguments: validText(text)}, nil
}

func argumentsText(arguments any) (string, error) {
	switch given := arguments.(type) {
	case nil:
		return "", nil
	case string:
		return given, nil
	case []byte:
		return string(given), nil
	case json.RawMessage:
		return string(given), nil
	}
	made, err := json.Marshal(arguments)
	return string(made), err
}

// validText returns text as UTF-8, which is all that the contract's messages can hold.
func validText(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
