package main

import (
	"context"
	"encoding/json"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"sidecall.dev/go"
)

type batchRequest struct {
	Sidecar   sidecar      `json:"sidecar"`
	Stream    bool         `json:"stream"`
	TimeoutMS float64      `json:"timeout_ms"`
	Calls     []batchCall  `json:"calls"`
	Options   batchOptions `json:"options"`
}

type batchCall struct {
	ID             string   `json:"id"`
	Name           string   `json:"name"`
	Arguments      any      `json:"arguments"`
	DependsOn      []string `json:"depends_on"`
	TimeoutMS      float64  `json:"timeout_ms"`
	IdempotencyKey string   `json:"idempotency_key"`
}

type batchOptions struct {
	Mode              string            `json:"mode"`
	OnFailure         string            `json:"on_failure"`
	MaxConcurrency    int               `json:"max_concurrency"`
	Context           map[string]string `json:"context"`
	RequestID         string            `json:"request_id"`
	SentToInstance    string            `json:"sent_to_instance"`
	SessionID         string            `json:"session_id"`
	MaxResponseBytes  int64             `json:"max_response_bytes"`
	DisableReferences bool              `json:"disable_references"`
	Approvals         []approvalRule    `json:"approvals"`
}

type approvalRule struct {
	ApprovalID string  `json:"approval_id"`
	Tool       string  `json:"tool"`
	CallID     *string `json:"call_id"`
	Decision   string  `json:"decision"`
	By         string  `json:"by"`
	Arguments  *string `json:"arguments"`
	Comment    string  `json:"comment"`
}

func (r approvalRule) approval(id string) *sidecall.Approval {
	if r.Decision == "reject" {
		return sidecall.Reject(id, r.By, r.Comment)
	}
	approval := sidecall.Approve(id, r.By)
	approval.Arguments = r.Arguments
	return approval
}

func (o batchOptions) options() (sidecall.BatchOptions, error) {
	options := sidecall.BatchOptions{
		MaxConcurrency:    o.MaxConcurrency,
		Context:           o.Context,
		RequestID:         o.RequestID,
		SentToInstance:    o.SentToInstance,
		SessionID:         o.SessionID,
		MaxResponseBytes:  o.MaxResponseBytes,
		DisableReferences: o.DisableReferences,
	}
	var known bool
	if options.Mode, known = map[string]sidecall.ExecutionMode{
		"": 0, "parallel": sidecall.Parallel, "sequential": sidecall.Sequential,
	}[o.Mode]; !known {
		return options, invalid("there is no mode %q", o.Mode)
	}
	if options.OnFailure, known = map[string]sidecall.FailurePolicy{
		"": 0, "continue": sidecall.Continue, "stop": sidecall.Stop,
	}[o.OnFailure]; !known {
		return options, invalid("there is no on_failure %q", o.OnFailure)
	}
	for _, rule := range o.Approvals {
		options.Approvals = append(options.Approvals, rule.approval(rule.ApprovalID))
	}
	return options, nil
}

func milliseconds(given float64) time.Duration {
	return time.Duration(given * float64(time.Millisecond))
}

func runBatch(raw json.RawMessage) (object, error) {
	var asked batchRequest
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	answered, err := execute(asked)
	if err != nil {
		return object{"outcome": "error", "error": errorOf(err)}, nil
	}
	return object{
		"outcome": "results", "results": resultsOf(answered.Results), "request_id": answered.RequestID,
	}, nil
}

func execute(asked batchRequest) (*sidecall.BatchResults, error) {
	client, err := asked.Sidecar.client()
	if err != nil {
		return nil, invalidError{err}
	}
	defer func() { _ = client.Close() }()
	options, err := asked.Options.options()
	if err != nil {
		return nil, err
	}
	var calls []*sidecall.ToolCall
	for _, given := range asked.Calls {
		call, err := sidecall.NewCall(given.Name, given.Arguments)
		if err != nil {
			return nil, invalidError{err}
		}
		call.Id, call.DependsOn, call.IdempotencyKey = given.ID, given.DependsOn, given.IdempotencyKey
		if given.TimeoutMS != 0 {
			call.Timeout = durationpb.New(milliseconds(given.TimeoutMS))
		}
		calls = append(calls, call)
	}
	ctx := context.Background()
	if asked.TimeoutMS != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, milliseconds(asked.TimeoutMS))
		defer cancel()
	}
	if !asked.Stream {
		return client.ExecuteBatch(ctx, calls, &options)
	}
	return stream(ctx, client, calls, &options)
}

func stream(
	ctx context.Context, client *sidecall.Client, calls []*sidecall.ToolCall, options *sidecall.BatchOptions,
) (*sidecall.BatchResults, error) {
	turn, err := client.StreamBatch(ctx, options)
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	for index, call := range calls {
		if err := turn.Send(index, call); err != nil {
			return nil, err
		}
	}
	if err := turn.Seal(); err != nil {
		return nil, err
	}
	return turn.Results()
}
