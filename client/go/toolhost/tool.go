package toolhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"google.golang.org/protobuf/types/known/durationpb"
	"sidecall.dev/go"
	"sidecall.dev/go/sidecallv1"
)

// Tool is a function that is offered, with its description.
type Tool struct {
	message *sidecallv1.Tool
	invoke  func(ctx context.Context, arguments string) (any, error)
}

// Name returns the tool's name.
func (t *Tool) Name() string { return t.message.GetName() }

// ToolOptions is what may be said about a tool. Zero values mean the sidecar's defaults; its
// configuration goes before what is said here.
type ToolOptions struct {
	// Effects says what running the tool may change; by default NonIdempotent.
	Effects sidecall.Effects
	// InputSchema is the JSON Schema of the arguments: anything whose JSON form it is, such as
	// a json.RawMessage or a *jsonschema.Schema. By default it is derived from the type of the
	// arguments.
	InputSchema any
	// OutputSchema is the JSON Schema of the result, likewise; nil where there is none.
	OutputSchema any
	// Limits bound how the tool is run.
	Limits Limits
	// RequiresApproval has a human decide on each call before it runs.
	RequiresApproval bool
	// Lane is a template over the arguments, such as "account:{account_id}": calls with one key
	// run one at a time, in order.
	Lane string
}

// Limits are the limits of one tool, counted over all hosts that offer it.
type Limits struct {
	// MaxConcurrency is the most calls that run at a time.
	MaxConcurrency int
	// MaxQueue is the most calls that may be ready and waiting.
	MaxQueue int
	// Timeout is the time that one attempt may take.
	Timeout time.Duration
	// QueueTimeout is the time that a ready call may wait.
	QueueTimeout time.Duration
	// Rate says how often the tool may start; nil means as often as the other limits allow.
	Rate *Rate
	// Groups name limits that the tool shares with others.
	Groups []string
	// MaxAttempts is the most attempts of a call.
	MaxAttempts int
	// CacheTTL is the time for which a result answers identical calls.
	CacheTTL time.Duration
	// MaxResultBytes bounds one result.
	MaxResultBytes int64
}

// Rate says how often something may start.
type Rate struct {
	// Count is the starts per Period in the long run.
	Count int64
	// Period is that of Count.
	Period time.Duration
	// Burst is the starts that may come at once after a pause; 0 means Count.
	Burst int64
}

// NewTool makes a tool of a function. Its arguments are decoded from JSON into Args, a struct or
// a map; their JSON Schema is derived from it: names from json tags, descriptions from
// jsonschema tags, and what is neither omitempty nor omitzero is required.
//
// A result that is a string is passed on as it is, [Parts] as typed parts, nil and struct{} as
// null, anything else as JSON. A [*ToolError] is told to the model; of any other error it only
// learns that the tool failed.
//
// options may be nil. NewTool fails where there is no name, no schema of an object, or a limit
// that makes no sense.
func NewTool[Args, Result any](
	name, description string,
	function func(ctx context.Context, arguments Args) (Result, error),
	options *ToolOptions,
) (*Tool, error) {
	if options == nil {
		options = &ToolOptions{}
	}
	if name == "" || function == nil {
		return nil, errors.New("toolhost: a tool needs a name and a function")
	}
	if err := options.Limits.check(); err != nil {
		return nil, fmt.Errorf("toolhost: tool %s: %w", name, err)
	}
	message := &sidecallv1.Tool{
		Name:             name,
		Description:      description,
		Effects:          options.Effects,
		Limits:           options.Limits.message(),
		RequiresApproval: options.RequiresApproval,
		Lane:             options.Lane,
	}
	var err error
	if message.InputSchema, err = inputSchema[Args](options.InputSchema); err != nil {
		return nil, fmt.Errorf("toolhost: tool %s: %w", name, err)
	}
	if options.OutputSchema != nil {
		schema, err := json.Marshal(options.OutputSchema)
		if err != nil {
			return nil, fmt.Errorf("toolhost: tool %s: the output schema: %w", name, err)
		}
		message.OutputSchema = string(schema)
	}
	invoke := func(ctx context.Context, text string) (any, error) {
		var arguments Args
		if text == "" {
			text = "{}"
		}
		if err := json.Unmarshal([]byte(text), &arguments); err != nil {
			return nil, &argumentsError{err}
		}
		return function(ctx, arguments)
	}
	return &Tool{message, invoke}, nil
}

func inputSchema[Args any](given any) (string, error) {
	if given == nil {
		schema, err := jsonschema.For[Args](nil)
		if err != nil {
			return "", fmt.Errorf("no schema of the arguments: %w", err)
		}
		if schema.Type != "object" {
			return "", fmt.Errorf("%v is no object; give an InputSchema", reflect.TypeFor[Args]())
		}
		given = schema
	}
	text, err := json.Marshal(given)
	if err != nil {
		return "", fmt.Errorf("the input schema: %w", err)
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil || object == nil {
		return "", errors.New("the input schema is no JSON object")
	}
	return string(text), nil
}

func (l *Limits) check() error {
	for name, limit := range map[string]int{
		"MaxConcurrency": l.MaxConcurrency, "MaxQueue": l.MaxQueue, "MaxAttempts": l.MaxAttempts,
	} {
		if limit < 0 || limit > math.MaxInt32 {
			return fmt.Errorf("%s must be from 0 to %d, not %d", name, math.MaxInt32, limit)
		}
	}
	return nil
}

func (l *Limits) message() *sidecallv1.ToolLimits {
	message := &sidecallv1.ToolLimits{
		MaxConcurrency: int32(l.MaxConcurrency),
		MaxQueue:       int32(l.MaxQueue),
		Timeout:        durationOf(l.Timeout),
		QueueTimeout:   durationOf(l.QueueTimeout),
		Groups:         l.Groups,
		MaxAttempts:    int32(l.MaxAttempts),
		CacheTtl:       durationOf(l.CacheTTL),
		MaxResultBytes: l.MaxResultBytes,
	}
	if l.Rate != nil {
		message.Rate = &sidecallv1.Rate{
			Count: l.Rate.Count, Period: durationpb.New(l.Rate.Period), Burst: l.Rate.Burst,
		}
	}
	return message
}

func durationOf(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// argumentsError says that arguments do not fit the function's type.
type argumentsError struct{ err error }

func (e *argumentsError) Error() string {
	where, what := "arguments", "do not fit the tool's parameters"
	var mismatch *json.UnmarshalTypeError
	if errors.As(e.err, &mismatch) {
		if mismatch.Field != "" {
			where = "/" + strings.ReplaceAll(mismatch.Field, ".", "/")
		}
		what = fmt.Sprintf("a JSON %s does not fit %v", mismatch.Value, mismatch.Type)
	}
	return fmt.Sprintf("The arguments are invalid. Correct them and call the tool again:\n- %s: %s", where, what)
}
