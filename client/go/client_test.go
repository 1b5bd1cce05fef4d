package sidecall_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"go.uber.org/goleak"
	"sidecall.dev/go"
	"sidecall.dev/go/internal/fakesidecar"
	"sidecall.dev/go/sidecallv1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func clientOf(t *testing.T, endpoint string, options ...sidecall.Option) *sidecall.Client {
	t.Helper()
	client, err := sidecall.NewClient(append([]sidecall.Option{sidecall.WithEndpoint(endpoint)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func callOf(t *testing.T, name string, arguments any) *sidecall.ToolCall {
	t.Helper()
	call, err := sidecall.NewCall(name, arguments)
	if err != nil {
		t.Fatal(err)
	}
	return call
}

func failureOf(t *testing.T, err error) *sidecall.Error {
	t.Helper()
	var failure *sidecall.Error
	if !errors.As(err, &failure) {
		t.Fatalf("%v is no *sidecall.Error", err)
	}
	return failure
}

func TestEndpointComesFromTheEnvironment(t *testing.T) {
	fake := &fakesidecar.Fake{Batch: fakesidecar.Echo}
	t.Setenv("SIDECALL_ENDPOINT", fake.Start(t))
	client := clientOf(t, "")

	result, err := client.Call(t.Context(), "echo", map[string]int{"n": 1}, nil)

	if err != nil || result.GetContent() != `{"n":1}` {
		t.Fatal(result, err)
	}
}

func TestEndpointsThatMakeNoSense(t *testing.T) {
	for _, endpoint := range []string{"host", ":1", "host:", "host:port", "http://a:1", "unix:", "a:70000"} {
		if _, err := sidecall.NewClient(sidecall.WithEndpoint(endpoint)); err == nil {
			t.Errorf("%q was taken", endpoint)
		}
	}
	if _, err := sidecall.NewClient(sidecall.WithMaxMessageBytes(0)); err == nil {
		t.Error("a size of 0 was taken")
	}
}

func TestAuthorityOfUnixSocketsIsLocalhost(t *testing.T) {
	var authority atomic.Value
	fake := &fakesidecar.Fake{Batch: func(
		ctx context.Context, request *sidecallv1.ExecuteBatchRequest,
	) (*sidecallv1.ExecuteBatchResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		authority.Store(md.Get(":authority")[0])
		return fakesidecar.Echo(ctx, request)
	}}

	if _, err := clientOf(t, fake.Start(t)).Call(t.Context(), "echo", nil, nil); err != nil {
		t.Fatal(err)
	}

	if authority.Load() != "localhost" {
		t.Error(authority.Load())
	}
}

func TestMetadataTokenAndTraceAreSent(t *testing.T) {
	seen := make(chan metadata.MD, 2)
	fake := &fakesidecar.Fake{Batch: func(
		ctx context.Context, request *sidecallv1.ExecuteBatchRequest,
	) (*sidecallv1.ExecuteBatchResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen <- md
		return fakesidecar.Echo(ctx, request)
	}}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := clientOf(t, fake.Start(t),
		sidecall.WithTokenSource(sidecall.TokenFile(file)),
		sidecall.WithMetadata(metadata.Pairs("x-tenant", "a")))
	ctx := sidecall.WithTraceContext(t.Context(), "00-abc-def-01", "vendor=1")

	for _, token := range []string{"first", "second"} {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Call(ctx, "echo", nil, nil); err != nil {
			t.Fatal(err)
		}
		md := <-seen
		for key, value := range map[string]string{
			"authorization": "Bearer " + token, "x-tenant": "a",
			"traceparent": "00-abc-def-01", "tracestate": "vendor=1",
		} {
			if got := md.Get(key); len(got) != 1 || got[0] != value {
				t.Errorf("%s is %v, not %s", key, got, value)
			}
		}
	}
}

func TestATokenThatCannotBeReadStartsNothing(t *testing.T) {
	fake := &fakesidecar.Fake{Batch: fakesidecar.Echo}
	missing := sidecall.TokenFile(filepath.Join(t.TempDir(), "none"))
	client := clientOf(t, fake.Start(t), sidecall.WithTokenSource(missing))

	_, err := client.Call(t.Context(), "echo", nil, nil)

	if failure := failureOf(t, err); !failure.NotStarted || !errors.Is(err, os.ErrNotExist) {
		t.Error(failure)
	}
}

func TestAllPagesOfToolsAreListedAnewWhereTheyChange(t *testing.T) {
	pages := []string{}
	fake := &fakesidecar.Fake{Tools: func(
		_ context.Context, request *sidecallv1.ListToolsRequest,
	) (*sidecallv1.ListToolsResponse, error) {
		pages = append(pages, request.GetPageToken())
		switch {
		case request.GetPageToken() == "":
			return &sidecallv1.ListToolsResponse{
				Tools: []*sidecallv1.Tool{{Name: "a"}}, NextPageToken: "2",
			}, nil
		case len(pages) == 2:
			return nil, fakesidecar.Refusal(codes.Aborted, "TOOLS_CHANGED", -1)
		}
		return &sidecallv1.ListToolsResponse{Tools: []*sidecallv1.Tool{{Name: "b"}}, Revision: "r"}, nil
	}}

	listed, err := clientOf(t, fake.Start(t)).ListTools(t.Context())

	if err != nil || len(listed.Tools) != 2 || len(pages) != 4 || listed.Revision != "r" {
		t.Fatal(listed, pages, err)
	}
}

func TestWhatStartedNothingIsSentAgain(t *testing.T) {
	sends := 0
	fake := &fakesidecar.Fake{Batch: func(
		ctx context.Context, request *sidecallv1.ExecuteBatchRequest,
	) (*sidecallv1.ExecuteBatchResponse, error) {
		if sends++; sends < 3 {
			return nil, fakesidecar.Refusal(codes.ResourceExhausted, "TOO_MANY_BATCHES", 1)
		}
		return fakesidecar.Echo(ctx, request)
	}}

	_, err := clientOf(t, fake.Start(t)).Call(t.Context(), "echo", nil, nil)

	if err != nil || sends != 3 {
		t.Fatal(sends, err)
	}
}

func TestWhatMayHaveStartedIsNotSentAgainWithoutARequestID(t *testing.T) {
	sends := 0
	fake := &fakesidecar.Fake{Batch: func(
		context.Context, *sidecallv1.ExecuteBatchRequest,
	) (*sidecallv1.ExecuteBatchResponse, error) {
		sends++
		return nil, status.Error(codes.Unavailable, "gone")
	}}

	_, err := clientOf(t, fake.Start(t)).Call(t.Context(), "echo", nil, nil)

	failure := failureOf(t, err)
	if sends != 1 || failure.NotStarted || failure.Code != codes.Unavailable {
		t.Fatal(sends, failure)
	}
}

func TestWithARequestIDALostBatchIsSentAgainToItsInstance(t *testing.T) {
	var instances []string
	fake := &fakesidecar.Fake{
		Capabilities: func(context.Context) (*sidecallv1.GetCapabilitiesResponse, error) {
			return &sidecallv1.GetCapabilitiesResponse{InstanceId: "one"}, nil
		},
		Batch: func(
			_ context.Context, request *sidecallv1.ExecuteBatchRequest,
		) (*sidecallv1.ExecuteBatchResponse, error) {
			instances = append(instances, request.GetSentToInstance())
			if len(instances) == 1 {
				return nil, status.Error(codes.Unavailable, "gone")
			}
			return nil, fakesidecar.Refusal(codes.FailedPrecondition, "REQUEST_FORGOTTEN", -1)
		},
	}

	_, err := clientOf(t, fake.Start(t)).Call(
		t.Context(), "echo", nil, &sidecall.BatchOptions{RequestID: "r"})

	failure := failureOf(t, err)
	if !errors.Is(err, sidecall.ReasonRequestForgotten) || failure.NotStarted || failure.SentToInstance != "one" {
		t.Error(failure)
	}
	if len(instances) != 2 || instances[0] != "" || instances[1] != "one" {
		t.Error(instances)
	}
}

func TestNoBatchIsSentWhereNobodyAnswersForItsInstance(t *testing.T) {
	fake := &fakesidecar.Fake{
		Batch: fakesidecar.Echo,
		Capabilities: func(context.Context) (*sidecallv1.GetCapabilitiesResponse, error) {
			return nil, status.Error(codes.Unavailable, "gone")
		},
	}
	client := clientOf(t, fake.Start(t), sidecall.WithRetries(0))

	_, err := client.Call(t.Context(), "echo", nil, &sidecall.BatchOptions{RequestID: "r"})

	if failure := failureOf(t, err); !failure.NotStarted || failure.SentToInstance != "" {
		t.Error(failure)
	}
}

func TestASidecarThatIsNotThereStartsNothing(t *testing.T) {
	client := clientOf(t, "unix:"+filepath.Join(t.TempDir(), "none"), sidecall.WithRetries(0))

	_, err := client.Call(t.Context(), "echo", nil, nil)

	if failure := failureOf(t, err); !failure.NotStarted || failure.Code != codes.Unavailable {
		t.Error(failure)
	}
}

func TestTheContextEndsAnRPC(t *testing.T) {
	begun := make(chan time.Duration, 1)
	fake := &fakesidecar.Fake{Batch: func(
		ctx context.Context, _ *sidecallv1.ExecuteBatchRequest,
	) (*sidecallv1.ExecuteBatchResponse, error) {
		deadline, _ := ctx.Deadline()
		begun <- time.Until(deadline)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	client := clientOf(t, fake.Start(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := client.Call(ctx, "echo", nil, nil)
		failed <- err
	}()

	if left := <-begun; left <= 0 || left > time.Hour {
		t.Error("the deadline was not told:", left)
	}
	cancel()

	if err := <-failed; !errors.Is(err, context.Canceled) || failureOf(t, err).Code != codes.Canceled {
		t.Error(err)
	}
}

func TestWaitUntilReadyWaits(t *testing.T) {
	asked := 0
	fake := &fakesidecar.Fake{Capabilities: func(context.Context) (*sidecallv1.GetCapabilitiesResponse, error) {
		if asked++; asked == 1 {
			return nil, status.Error(codes.Unavailable, "soon")
		}
		return &sidecallv1.GetCapabilitiesResponse{ServerVersion: "1"}, nil
	}}

	capabilities, err := clientOf(t, fake.Start(t)).WaitUntilReady(t.Context())

	if err != nil || capabilities.GetServerVersion() != "1" {
		t.Fatal(capabilities, err)
	}
}

func TestMessagesAreBoundedBothWays(t *testing.T) {
	fake := &fakesidecar.Fake{Batch: fakesidecar.Echo}
	client := clientOf(t, fake.Start(t), sidecall.WithMaxMessageBytes(1000))

	_, err := client.Call(t.Context(), "echo", string(make([]byte, 2000)), nil)

	if failure := failureOf(t, err); failure.Code != codes.ResourceExhausted {
		t.Error(failure)
	}
}

func TestMutualTLS(t *testing.T) {
	files := certificates(t)
	pair, err := tls.LoadX509KeyPair(files.cert, files.key)
	if err != nil {
		t.Fatal(err)
	}
	config, err := sidecall.TLSFiles(files.cert, files.cert, files.key)
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: config.RootCAs,
	}
	fake := &fakesidecar.Fake{Batch: fakesidecar.Echo}
	endpoint := fake.StartTCP(t, grpc.Creds(credentials.NewTLS(server)))

	if _, err := clientOf(t, endpoint, sidecall.WithTLS(config)).Call(t.Context(), "echo", nil, nil); err != nil {
		t.Error(err)
	}
	_, err = clientOf(t, endpoint, sidecall.WithRetries(0), sidecall.WithTLS(&tls.Config{MinVersion: tls.VersionTLS12})).
		Call(t.Context(), "echo", nil, nil)
	if failure := failureOf(t, err); !failure.NotStarted {
		t.Error(failure)
	}
	if _, err := sidecall.TLSFiles("", files.cert, ""); err == nil {
		t.Error("a certificate without its key was taken")
	}
}

type certificateFiles struct{ cert, key string }

func certificates(t *testing.T) certificateFiles {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	files := certificateFiles{filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")}
	for path, block := range map[string]*pem.Block{
		files.cert: {Type: "CERTIFICATE", Bytes: cert}, files.key: {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
