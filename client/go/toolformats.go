package sidecall

import (
	"encoding/json"
	"fmt"
)

// ChatCompletionsTools returns tools as the Chat Completions API takes them, to be written as
// JSON. names maps the names; nil means NewToolNames(tools). It fails where a tool is not among
// the names or its schema is not a JSON object.
func ChatCompletionsTools(tools []*Tool, names *ToolNames) ([]map[string]any, error) {
	functions, err := functionsOf(tools, names)
	if err != nil {
		return nil, err
	}
	for i, function := range functions {
		functions[i] = map[string]any{"type": "function", "function": function}
	}
	return functions, nil
}

// ResponsesTools returns tools as the Responses API takes them, to be written as JSON. It is
// like [ChatCompletionsTools] otherwise.
func ResponsesTools(tools []*Tool, names *ToolNames) ([]map[string]any, error) {
	functions, err := functionsOf(tools, names)
	if err != nil {
		return nil, err
	}
	for _, function := range functions {
		function["type"] = "function"
		// Here strict is on unless said otherwise, and refuses most schemas of real tools.
		function["strict"] = false
	}
	return functions, nil
}

func functionsOf(tools []*Tool, names *ToolNames) ([]map[string]any, error) {
	if names == nil {
		names = NewToolNames(tools)
	}
	functions := make([]map[string]any, 0, len(tools))
	for _, tool := range tools {
		name, err := names.ToProvider(tool.GetName())
		if err != nil {
			return nil, err
		}
		parameters, err := parametersOf(tool.GetInputSchema())
		if err != nil {
			return nil, fmt.Errorf("sidecall: the schema of %s: %w", tool.GetName(), err)
		}
		functions = append(functions, map[string]any{
			"name": name, "description": tool.GetDescription(), "parameters": parameters,
		})
	}
	return functions, nil
}

func parametersOf(schema string) (map[string]json.RawMessage, error) {
	parameters := map[string]json.RawMessage{
		"type": json.RawMessage(`"object"`), "properties": json.RawMessage(`{}`),
	}
	if schema == "" {
		return parameters, nil
	}
	if err := json.Unmarshal([]byte(schema), &parameters); err != nil {
		return nil, err
	}
	delete(parameters, "$schema")
	return parameters, nil
}
