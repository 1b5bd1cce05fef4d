package sidecall

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// TokenSource returns the token to send. It is asked for each RPC, by several goroutines.
type TokenSource func(ctx context.Context) (string, error)

// Option is a choice of a [Client].
type Option func(*settings)

type settings struct {
	endpoint        string
	token           TokenSource
	tls             *tls.Config
	metadata        metadata.MD
	maxMessageBytes int
	sizeGiven       bool
	retries         *int // Nil for the default.
	dialOptions     []grpc.DialOption
}

// WithEndpoint names the sidecar: host:port or unix:/path. By default it is the environment's
// SIDECALL_ENDPOINT, then 127.0.0.1:50071.
func WithEndpoint(endpoint string) Option {
	return func(s *settings) { s.endpoint = endpoint }
}

// WithToken sends a bearer token with each RPC.
func WithToken(token string) Option {
	return WithTokenSource(func(context.Context) (string, error) { return token, nil })
}

// WithTokenSource asks for the bearer token of each RPC.
func WithTokenSource(source TokenSource) Option {
	return func(s *settings) { s.token = source }
}

// TokenFile reads the token from a file, anew for each RPC: whoever replaces it needs no
// restart. White space around it is dropped.
func TokenFile(path string) TokenSource {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(string(text)), nil
	}
}

// WithTLS connects over TLS; see [TLSFiles]. By default the connection is plain.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.tls = config }
}

// TLSFiles makes a configuration for [WithTLS]: caFile has the certificates to trust, in PEM;
// empty means those of the system. certFile and keyFile are the client's own, for mutual TLS;
// both are empty without it.
func TLSFiles(caFile, certFile, keyFile string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("sidecall: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("sidecall: no certificate in %s", caFile)
		}
	}
	if (certFile == "") != (keyFile == "") {
		return nil, errors.New("sidecall: mutual TLS needs a certificate and its key")
	}
	if certFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("sidecall: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// WithMetadata sends these with each RPC.
func WithMetadata(md metadata.MD) Option {
	return func(s *settings) { s.metadata = metadata.Join(s.metadata, md) }
}

// WithMaxMessageBytes sets the largest message that is sent or received. By default it is the
// environment's SIDECALL_MAX_INBOUND_MESSAGE_BYTES, then 16 MiB.
func WithMaxMessageBytes(size int) Option {
	return func(s *settings) { s.maxMessageBytes, s.sizeGiven = size, true }
}

// WithRetries sets how often an RPC is sent again where that certainly runs no call twice: it
// started nothing, or has a request id that the sidecar knows, or refuses where it was
// restarted and has forgotten it. Pauses grow from 0.1 to 2 seconds. By default it is often
// enough to outlast a restart of 3 seconds, and, once the sidecar may have received what was
// sent, until the context's deadline. Where the sidecar asks for a pause of more than 5 seconds
// that is left to the caller ([Error.RetryAfter]).
func WithRetries(retries int) Option {
	return func(s *settings) { s.retries = &retries }
}

// WithDialOptions passes further options on to gRPC: an OpenTelemetry stats handler, for
// example.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dialOptions = append(s.dialOptions, options...) }
}
