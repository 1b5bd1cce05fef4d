package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"sidecall.dev/go"
	"sidecall.dev/go/chat"
)

type chatRequest struct {
	Sidecar sidecar `json:"sidecar"`
	Model   struct {
		BaseURL string `json:"base_url"`
		APIKey  string `json:"api_key"`
		Name    string `json:"name"`
	} `json:"model"`
	Options   chatOptions     `json:"options"`
	Approvals *[]approvalRule `json:"approvals"`
	Runs      []chatRun       `json:"runs"`
}

type chatOptions struct {
	API            string            `json:"api"`
	Stream         bool              `json:"stream"`
	EarlyStart     bool              `json:"early_start"`
	MaxTurns       int               `json:"max_turns"`
	Tools          []string          `json:"tools"`
	ReferenceHint  bool              `json:"reference_hint"`
	Attachments    *bool             `json:"attachments"`
	Context        map[string]string `json:"context"`
	SessionID      string            `json:"session_id"`
	Resend         bool              `json:"resend"`
	BatchTimeoutMS float64           `json:"batch_timeout_ms"`
	Batch          batchOptions      `json:"batch"`
	Request        map[string]any    `json:"request"`
}

type chatRun struct {
	Input       json.RawMessage `json:"input"`
	CancelAfter *struct {
		Event string `json:"event"`
		Count int    `json:"count"`
	} `json:"cancel_after"`
}

// chats runs one chat at a time.
type chats struct {
	mu     sync.Mutex
	cancel context.CancelFunc
	asked  chatRun
	events []object
}

// cancelRun cancels the run in hand.
func (c *chats) cancelRun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
}

func (c *chats) run(raw json.RawMessage) (object, error) {
	var asked chatRequest
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	client, err := asked.Sidecar.client()
	if err != nil {
		return refusedChat(err), nil
	}
	defer func() { _ = client.Close() }()
	loop, err := c.loopOf(asked, client)
	if err != nil {
		return refusedChat(err), nil
	}
	runs := []object{}
	for _, run := range asked.Runs {
		told, err := c.runOne(loop, run)
		if err != nil {
			return nil, err
		}
		runs = append(runs, told)
	}
	return object{"runs": runs}, nil
}

func refusedChat(err error) object {
	return object{"runs": []object{{
		"outcome": "error", "error": errorOf(invalidError{err}), "history": []any{}, "events": []any{},
	}}}
}

func (c *chats) loopOf(asked chatRequest, client *sidecall.Client) (*chat.Loop, error) {
	given := asked.Options
	batch, err := given.Batch.options()
	if err != nil {
		return nil, err
	}
	provider := openai.NewClient(
		option.WithBaseURL(asked.Model.BaseURL), option.WithAPIKey(asked.Model.APIKey),
		option.WithMaxRetries(0), option.WithHTTPClient(&http.Client{Transport: &http.Transport{}}),
	)
	options := chat.Options{
		Model:              asked.Model.Name,
		API:                chat.API(given.API),
		Stream:             given.Stream,
		EarlyStart:         given.EarlyStart,
		MaxTurns:           given.MaxTurns,
		OnEvent:            c.take,
		ReferenceHint:      given.ReferenceHint,
		WithoutAttachments: given.Attachments != nil && !*given.Attachments,
		Tools:              given.Tools,
		Context:            given.Context,
		SessionID:          given.SessionID,
		Resend:             given.Resend,
		BatchTimeout:       milliseconds(given.BatchTimeoutMS),
		Batch:              batch,
		Request:            given.Request,
	}
	if asked.Approvals != nil {
		options.Approve = approveBy(*asked.Approvals)
	}
	return chat.NewLoop(client, provider, options)
}

func approveBy(rules []approvalRule) func(context.Context, chat.ApprovalRequested) (*sidecall.Approval, error) {
	return func(_ context.Context, asked chat.ApprovalRequested) (*sidecall.Approval, error) {
		for _, rule := range rules {
			if rule.Tool != asked.ToolName || rule.CallID != nil && *rule.CallID != asked.CallID {
				continue
			}
			switch rule.Decision {
			case "approve", "reject":
				return rule.approval(asked.ApprovalID), nil
			case "fail":
				return nil, errors.New(rule.Comment)
			}
			return nil, nil
		}
		return nil, nil
	}
}

// take notes an event. Events come one at a time.
func (c *chats) take(_ context.Context, event chat.Event) error {
	told := eventOf(event)
	c.events = append(c.events, told)
	wanted := c.asked.CancelAfter
	if wanted == nil || told["event"] != wanted.Event {
		return nil
	}
	seen := 0
	for _, each := range c.events {
		if each["event"] == wanted.Event {
			seen++
		}
	}
	if seen == wanted.Count {
		c.cancelRun()
	}
	return nil
}

func (c *chats) runOne(loop *chat.Loop, run chatRun) (object, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.mu.Lock()
	c.cancel, c.asked, c.events = cancel, run, []object{}
	c.mu.Unlock()
	var question string
	var messages []chat.Item
	var result *chat.Result
	var err error
	if json.Unmarshal(run.Input, &question) == nil {
		result, err = loop.Run(ctx, question)
	} else if err = json.Unmarshal(run.Input, &messages); err != nil {
		return nil, err
	} else {
		result, err = loop.RunMessages(ctx, messages)
	}
	c.mu.Lock()
	c.cancel = nil
	c.mu.Unlock()
	told := outcomeOf(result, err)
	told["history"], told["events"] = loop.History(), c.events
	return told, nil
}

func outcomeOf(result *chat.Result, err error) object {
	if errors.Is(err, context.Canceled) {
		return object{"outcome": "cancelled"}
	}
	if err != nil {
		return object{"outcome": "error", "error": errorOf(err)}
	}
	return object{
		"outcome": "answer", "text": result.Text, "refusal": result.Refusal,
		"stopped_reason": string(result.Stopped), "usage": usageOf(result.Usage),
	}
}

func usageOf(usage chat.Usage) object {
	return object{"input_tokens": usage.InputTokens, "output_tokens": usage.OutputTokens}
}
