package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Item is an entry of a conversation, as its API takes it in JSON: a message of Chat
// Completions, or an input item of the Responses API.
type Item = map[string]any

// User returns a message of the user, for both APIs.
func User(text string) Item { return Item{"role": "user", "content": text} }

// Items makes items of whatever has their JSON form: parameters and messages of the openai-go
// library, for example.
func Items(values ...any) ([]Item, error) {
	items := make([]Item, 0, len(values))
	for _, value := range values {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("chat: %w", err)
		}
		item, err := decode(string(text))
		if err != nil {
			return nil, fmt.Errorf("chat: not an item of a conversation: %w", err)
		}
		items = append(items, item)
	}
	return items, nil
}

// decodeItem reads a JSON object as decode does, and drops members that are null.
func decodeItem(text string) (Item, error) {
	item, err := decode(text)
	dropNulls(item)
	return item, err
}

// decode reads a JSON object. Numbers keep their digits, and lone surrogates, which UTF-8 has no
// form for, become the text of their escapes.
func decode(text string) (Item, error) {
	decoder := json.NewDecoder(strings.NewReader(escapeSurrogates(text)))
	decoder.UseNumber()
	var item Item
	if err := decoder.Decode(&item); err != nil {
		return nil, err
	}
	return item, nil
}

func dropNulls(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			if member == nil {
				delete(value, key)
			} else {
				dropNulls(member)
			}
		}
	case []any:
		for _, member := range value {
			dropNulls(member)
		}
	}
}

// escapeSurrogates doubles the backslash of each \uD800 to \uDFFF in JSON text that is not part
// of a pair.
func escapeSurrogates(text string) string {
	if !strings.Contains(text, `\u`) {
		return text
	}
	var out bytes.Buffer
	for i := 0; i < len(text); {
		if text[i] != '\\' || i+1 == len(text) {
			out.WriteByte(text[i])
			i++
			continue
		}
		size := 2
		switch high := surrogateAt(text, i); {
		case high == 0:
		case high < 0xDC00 && surrogateAt(text, i+6) >= 0xDC00:
			size = 12
		default:
			out.WriteByte('\\')
			size = 6
		}
		out.WriteString(text[i:min(i+size, len(text))])
		i += size
	}
	return out.String()
}

// surrogateAt returns the surrogate that is escaped at a place; 0 where there is none.
func surrogateAt(text string, at int) int {
	if at+6 > len(text) || text[at] != '\\' || text[at+1] != 'u' {
		return 0
	}
	var unit int
	if _, err := fmt.Sscanf(text[at+2:at+6], "%04x", &unit); err != nil || unit < 0xD800 || unit > 0xDFFF {
		return 0
	}
	return unit
}

// textOf returns a member that is text; "" where it is none.
func textOf(item Item, key string) string {
	text, _ := item[key].(string)
	return text
}

// jsonTextOf returns a member that should be JSON text, also where a provider sent the value.
func jsonTextOf(item Item, key string) string {
	switch value := item[key].(type) {
	case nil:
		return ""
	case string:
		return value
	default:
		text, err := json.Marshal(value)
		if err != nil {
			return "" // It was read from JSON.
		}
		return string(text)
	}
}

// itemOf returns a member that is an object; nil where it is none.
func itemOf(item Item, key string) Item {
	object, _ := item[key].(map[string]any)
	return object
}

// itemsOf returns the objects of a member that is a list.
func itemsOf(item Item, key string) []Item {
	var items []Item
	switch list := item[key].(type) {
	case []any:
		for _, member := range list {
			if object, ok := member.(map[string]any); ok {
				items = append(items, object)
			}
		}
	case []Item:
		return list
	}
	return items
}

// numberOf returns a member that is a whole number; 0 where it is none.
func numberOf(item Item, key string) int64 {
	switch number := item[key].(type) {
	case json.Number:
		whole, _ := number.Int64() // A number that is not whole counts as none.
		return whole
	case float64:
		return int64(number)
	case int:
		return int64(number)
	}
	return 0
}
