// Package fakesidecar is a sidecar for tests, in their own process: what it answers is said by
// functions.
package fakesidecar

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"sidecall.dev/go/sidecallv1"
)

// Fake answers RPCs. A function that is nil answers UNIMPLEMENTED.
type Fake struct {
	sidecallv1.UnimplementedToolServiceServer
	sidecallv1.UnimplementedToolHostServiceServer

	Capabilities func(context.Context) (*sidecallv1.GetCapabilitiesResponse, error)
	Tools        func(context.Context, *sidecallv1.ListToolsRequest) (*sidecallv1.ListToolsResponse, error)
	Batch        func(context.Context, *sidecallv1.ExecuteBatchRequest) (*sidecallv1.ExecuteBatchResponse, error)
	Stream       func(StreamServer) error
	Host         func(HostServer) error
}

// StreamServer is the sidecar's side of StreamBatch.
type StreamServer = grpc.BidiStreamingServer[sidecallv1.StreamBatchRequest, sidecallv1.StreamBatchResponse]

// HostServer is the sidecar's side of Attach.
type HostServer = grpc.BidiStreamingServer[sidecallv1.AttachRequest, sidecallv1.AttachResponse]

// Start serves on a unix socket until the test ends, and returns the endpoint.
func (f *Fake) Start(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	f.serve(t, "unix", path)
	return "unix:" + path
}

// StartTCP serves on a port of the loopback interface.
func (f *Fake) StartTCP(t testing.TB, options ...grpc.ServerOption) string {
	t.Helper()
	return f.serve(t, "tcp", "127.0.0.1:0", options...).Addr().String()
}

func (f *Fake) serve(t testing.TB, network, address string, options ...grpc.ServerOption) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	sidecallv1.RegisterToolServiceServer(server, f)
	sidecallv1.RegisterToolHostServiceServer(server, f)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener
}

// GetCapabilities asks Capabilities.
func (f *Fake) GetCapabilities(
	ctx context.Context, _ *sidecallv1.GetCapabilitiesRequest,
) (*sidecallv1.GetCapabilitiesResponse, error) {
	if f.Capabilities == nil {
		return nil, status.Error(codes.Unimplemented, "no Capabilities")
	}
	return f.Capabilities(ctx)
}

// ListTools asks Tools.
func (f *Fake) ListTools(
	ctx context.Context, request *sidecallv1.ListToolsRequest,
) (*sidecallv1.ListToolsResponse, error) {
	if f.Tools == nil {
		return nil, status.Error(codes.Unimplemented, "no Tools")
	}
	return f.Tools(ctx, request)
}

// ExecuteBatch asks Batch.
func (f *Fake) ExecuteBatch(
	ctx context.Context, request *sidecallv1.ExecuteBatchRequest,
) (*sidecallv1.ExecuteBatchResponse, error) {
	if f.Batch == nil {
		return nil, status.Error(codes.Unimplemented, "no Batch")
	}
	return f.Batch(ctx, request)
}

// StreamBatch asks Stream.
func (f *Fake) StreamBatch(stream StreamServer) error {
	if f.Stream == nil {
		return status.Error(codes.Unimplemented, "no Stream")
	}
	return f.Stream(stream)
}

// Attach asks Host.
func (f *Fake) Attach(stream HostServer) error {
	if f.Host == nil {
		return status.Error(codes.Unimplemented, "no Host")
	}
	return f.Host(stream)
}

// Refusal is an error as a sidecar makes it. A retryAfterMS below 0 means none.
func Refusal(code codes.Code, reason string, retryAfterMS int64) error {
	info := &errdetails.ErrorInfo{Domain: "sidecall.dev", Reason: reason}
	made, err := status.New(code, "refused").WithDetails(info)
	if err == nil && retryAfterMS >= 0 {
		made, err = made.WithDetails(&errdetails.RetryInfo{
			RetryDelay: &durationpb.Duration{Nanos: int32(retryAfterMS * 1e6)},
		})
	}
	if err != nil {
		return err
	}
	return made.Err()
}

// Echo answers each call with its arguments.
func Echo(
	_ context.Context, request *sidecallv1.ExecuteBatchRequest,
) (*sidecallv1.ExecuteBatchResponse, error) {
	response := &sidecallv1.ExecuteBatchResponse{RequestId: request.GetRequestId()}
	for _, call := range request.GetCalls() {
		response.Results = append(response.Results, ResultOf(call, call.GetArguments()))
	}
	return response, nil
}

// ResultOf is the result of a call that returned.
func ResultOf(call *sidecallv1.ToolCall, content string) *sidecallv1.ToolResult {
	return &sidecallv1.ToolResult{
		CallId: call.GetId(), Name: call.GetName(), Content: content,
		ExecutionState: sidecallv1.ExecutionState_EXECUTION_STATE_COMPLETED,
	}
}
