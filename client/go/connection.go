package sidecall

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const (
	defaultEndpoint        = "127.0.0.1:50071"
	defaultMaxMessageBytes = 16 << 20
	endpointVariable       = "SIDECALL_ENDPOINT"
	maxMessageVariable     = "SIDECALL_MAX_INBOUND_MESSAGE_BYTES"
	minConnectTimeout      = 5 * time.Second
	initialReconnect       = 100 * time.Millisecond
	maxReconnect           = 500 * time.Millisecond
)

// resolve fills what is not given from the environment, then from the defaults.
func (s *settings) resolve() error {
	if s.endpoint == "" {
		s.endpoint = os.Getenv(endpointVariable)
	}
	if s.endpoint == "" {
		s.endpoint = defaultEndpoint
	}
	if !validEndpoint(s.endpoint) {
		return fmt.Errorf("sidecall: endpoint must be host:port or unix:/path, not %q", s.endpoint)
	}
	if !s.sizeGiven {
		s.maxMessageBytes = defaultMaxMessageBytes
		if text := os.Getenv(maxMessageVariable); text != "" {
			size, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("sidecall: %s must be a number of bytes, not %q", maxMessageVariable, text)
			}
			s.maxMessageBytes = size
		}
	}
	if s.maxMessageBytes <= 0 {
		return fmt.Errorf("sidecall: the largest message must be positive, not %d", s.maxMessageBytes)
	}
	return nil
}

func validEndpoint(endpoint string) bool {
	if path, ok := strings.CutPrefix(endpoint, "unix:"); ok {
		return path != ""
	}
	colon := strings.LastIndexByte(endpoint, ':')
	if colon <= 0 || strings.Contains(endpoint, "/") {
		return false
	}
	_, err := strconv.ParseUint(endpoint[colon+1:], 10, 16)
	return err == nil
}

func (s *settings) dial() (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if s.tls != nil {
		transport = credentials.NewTLS(s.tls)
	}
	// A sidecar is near: when it restarts, seconds of reconnect backoff serve nobody.
	reconnect := grpc.ConnectParams{
		Backoff: backoff.Config{
			BaseDelay: initialReconnect, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnect,
		},
		MinConnectTimeout: minConnectTimeout,
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithConnectParams(reconnect),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(s.maxMessageBytes), grpc.MaxCallSendMsgSize(s.maxMessageBytes),
		),
		// What may be sent again is decided here, not by a service configuration.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithChainUnaryInterceptor(s.unary),
		grpc.WithChainStreamInterceptor(s.stream),
		grpc.WithUserAgent("sidecall-go/" + Version),
	}
	return grpc.NewClient(s.endpoint, append(options, s.dialOptions...)...)
}

func (s *settings) unary(
	ctx context.Context, method string, request, reply any,
	conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	ctx, err := s.withMetadata(ctx)
	if err != nil {
		return err
	}
	return invoke(ctx, method, request, reply, conn, options...)
}

func (s *settings) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn,
	method string, open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, err := s.withMetadata(ctx)
	if err != nil {
		return nil, err
	}
	return open(ctx, desc, conn, method, options...)
}

// withMetadata adds what is sent with each RPC.
func (s *settings) withMetadata(ctx context.Context) (context.Context, error) {
	given, _ := metadata.FromOutgoingContext(ctx)
	md := metadata.Join(given, s.metadata)
	if trace, ok := ctx.Value(traceKey{}).(traceContext); ok && len(md.Get(traceParentKey)) == 0 {
		md.Set(traceParentKey, trace.parent)
		if trace.state != "" {
			md.Set(traceStateKey, trace.state)
		}
	}
	if s.token != nil {
		token, err := s.token(ctx)
		if err != nil {
			return nil, &Error{
				Code:       codes.Unauthenticated,
				Message:    fmt.Sprintf("no token to send: %v", err),
				NotStarted: true,
				cause:      err,
			}
		}
		md.Set("authorization", "Bearer "+token)
	}
	return metadata.NewOutgoingContext(ctx, md), nil
}
