package sidecall

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"sidecall.dev/go/sidecallv1"
)

const (
	maxListings = 5
	readyPoll   = 50 * time.Millisecond
)

// Client is a client of one sidecar. It may be used by several goroutines.
//
// The deadline of a context bounds an RPC with all its retries: the sidecar is told, and
// answers a batch shortly before with the results so far.
type Client struct {
	conn     *grpc.ClientConn
	service  sidecallv1.ToolServiceClient
	settings settings

	mu         sync.Mutex
	instanceID string
}

// NewClient makes a client. It connects when it is first used, and fails here only where an
// option makes no sense.
func NewClient(options ...Option) (*Client, error) {
	chosen := settings{}
	for _, option := range options {
		option(&chosen)
	}
	if err := chosen.resolve(); err != nil {
		return nil, err
	}
	c := &Client{settings: chosen}
	conn, err := c.settings.dial()
	if err != nil {
		return nil, fmt.Errorf("sidecall: %w", err)
	}
	c.conn, c.service = conn, sidecallv1.NewToolServiceClient(conn)
	return c, nil
}

// Close closes the connection. RPCs in flight are cancelled.
func (c *Client) Close() error { return c.conn.Close() }

// Conn returns the connection, with this client's metadata and token, for stubs of the
// contract. Close closes it.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// MaxMessageBytes returns the largest message that is sent or received.
func (c *Client) MaxMessageBytes() int { return c.settings.maxMessageBytes }

// WaitUntilReady waits until the sidecar serves, and returns its capabilities. It fails with an
// [*Error] where the context ends before, or the sidecar refuses this client.
func (c *Client) WaitUntilReady(ctx context.Context) (*Capabilities, error) {
	for {
		capabilities, err := c.service.GetCapabilities(
			ctx, &sidecallv1.GetCapabilitiesRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return capabilities, nil
		}
		failure := ErrorFrom(ctx, err)
		if failure.Code != codes.Unavailable || sleep(ctx, readyPoll) != nil {
			return nil, failure
		}
	}
}

// GetCapabilities returns what the sidecar speaks and its limits. It fails with an [*Error].
func (c *Client) GetCapabilities(ctx context.Context) (*Capabilities, error) {
	return invoke(ctx, c, c.harmless(), c.service.GetCapabilities,
		&sidecallv1.GetCapabilitiesRequest{}, nil)
}

// ListedTools are the tools that a caller may use.
type ListedTools struct {
	// Tools are ordered by name.
	Tools []*Tool
	// Revision is an opaque value that changes when they or their descriptions do.
	Revision string
}

// ListTools returns all tools that the caller may use. It fails with an [*Error].
func (c *Client) ListTools(ctx context.Context) (*ListedTools, error) {
	listed := &ListedTools{}
	request := &sidecallv1.ListToolsRequest{}
	for listings := 1; ; {
		page, err := invoke(ctx, c, c.harmless(), c.service.ListTools, request, nil)
		if err != nil {
			if failure := ErrorFrom(ctx, err); failure.Code != codes.Aborted || listings >= maxListings {
				return nil, failure
			}
			listings++
			listed.Tools, request.PageToken = nil, ""
			continue
		}
		listed.Tools = append(listed.Tools, page.GetTools()...)
		listed.Revision = page.GetRevision()
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return listed, nil
		}
	}
}

// ExecuteBatch executes the calls of one turn and returns one result per call, in call order.
// options may be nil.
//
// With a request id the batch is sent again also after a lost connection: the sidecar runs no
// call a second time. One that was restarted meanwhile knows what has run only where its
// requests are durable; else it refuses, with [ReasonRequestForgotten]. Who sends it again by
// hand, after an error of which NotStarted is false, passes the error's SentToInstance on.
//
// It fails with an [*Error], whose NotStarted says whether that is harmless, or another error
// where an option makes no sense.
func (c *Client) ExecuteBatch(
	ctx context.Context, calls []*ToolCall, options *BatchOptions,
) (*BatchResults, error) {
	if options == nil {
		options = &BatchOptions{}
	}
	if err := options.check(); err != nil {
		return nil, err
	}
	request := options.request(calls)
	tries := newAttempts(c.settings.retries)
	tries.mayHaveStarted = request.GetSentToInstance() != ""
	instance := request.GetSentToInstance()
	if request.GetRequestId() != "" {
		if instance == "" {
			var err error
			if instance, err = c.findInstance(ctx, c.harmless()); err != nil {
				return nil, err
			}
		}
		tries.repeatable = instance != ""
	}
	note := func(failure *Error) {
		if !failure.NotStarted {
			request.SentToInstance, failure.SentToInstance = instance, instance
		}
	}
	response, err := invoke(ctx, c, tries, c.service.ExecuteBatch, request, note)
	if err != nil {
		return nil, err
	}
	if len(response.GetResults()) != len(calls) {
		return nil, &Error{Code: codes.Internal, Message: fmt.Sprintf(
			"%d calls were sent but %d results came back", len(calls), len(response.GetResults()))}
	}
	return &BatchResults{response.GetResults(), response.GetRequestId(), response.GetSchedule()}, nil
}

// Call executes one call: [NewCall] and [Client.ExecuteBatch]. Where a human may have to
// approve it, give a request id to send it again with.
func (c *Client) Call(
	ctx context.Context, name string, arguments any, options *BatchOptions,
) (*ToolResult, error) {
	call, err := NewCall(name, arguments)
	if err != nil {
		return nil, err
	}
	answered, err := c.ExecuteBatch(ctx, []*ToolCall{call}, options)
	if err != nil {
		return nil, err
	}
	return answered.Results[0], nil
}

func (c *Client) harmless() *attempts {
	tries := newAttempts(c.settings.retries)
	tries.repeatable = true
	return tries
}

// findInstance returns the sidecar's instance id, to be read before a first send; empty where
// the sidecar does not tell. It fails where the sidecar does not answer.
func (c *Client) findInstance(ctx context.Context, tries *attempts) (string, error) {
	c.mu.Lock()
	known := c.instanceID
	c.mu.Unlock()
	if known != "" {
		return known, nil
	}
	capabilities, err := invoke(
		ctx, c, tries, c.service.GetCapabilities, &sidecallv1.GetCapabilitiesRequest{}, nil)
	if err != nil {
		failure := ErrorFrom(ctx, err)
		switch failure.Code {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
			failure.NotStarted = true // The batch comes after it.
			return "", failure
		}
		return "", nil
	}
	c.setInstance(capabilities.GetInstanceId())
	return capabilities.GetInstanceId(), nil
}

func (c *Client) setInstance(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instanceID = id
}

// invoke makes a unary RPC, again where that is harmless. failed, if any, is told of each
// failure.
func invoke[Request, Response any](
	ctx context.Context, c *Client, tries *attempts,
	method func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request, failed func(*Error),
) (Response, error) {
	for {
		response, err := method(ctx, request)
		if err == nil {
			return response, nil
		}
		failure := ErrorFrom(ctx, err)
		if failure.Code == codes.DeadlineExceeded && failure.Reason == "" {
			failure.Message = fmt.Sprintf("no answer from %s in time", c.settings.endpoint)
		}
		if failure.Code == codes.Unavailable || failure.Reason == ReasonRequestForgotten {
			c.setInstance("") // The sidecar may have been restarted.
		}
		delay, again := tries.pause(ctx, failure)
		if failed != nil {
			failed(failure)
		}
		if !again {
			return response, failure
		}
		if err := sleep(ctx, delay); err != nil {
			failure.cause = err
			return response, failure
		}
	}
}
