package toolhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"sidecall.dev/go"
	"sidecall.dev/go/sidecallv1"
)

const (
	defaultSlots        = 16
	maxSlots            = 10_000
	maxNameBytes        = 256
	maxProgramBytes     = 64
	defaultDrainTimeout = 25 * time.Second
	// cancelledTime is what functions have to end once they are cancelled for good.
	cancelledTime = 500 * time.Millisecond
)

// Options are choices of a [Host]. Zero values mean the defaults.
type Options struct {
	// Name is that of the application, for people; by default the program's. At most 256 bytes.
	Name string
	// MaxConcurrency is the most calls that run at a time, up to 10 000; by default 16.
	MaxConcurrency int
	// DrainTimeout is the time that functions get to end when the host closes; by default 25 s.
	DrainTimeout time.Duration
	// Logger is told of attachments, and of what functions fail with; by default slog.Default().
	Logger *slog.Logger
}

// Host offers functions of this process as tools of a sidecar, for as long as it runs.
type Host struct {
	service      sidecallv1.ToolHostServiceClient
	offer        *sidecallv1.HostAttach
	runner       *callRunner
	drainTimeout time.Duration
	log          *slog.Logger

	mu       sync.Mutex
	used     bool
	attached bool
	ended    bool
	refusal  error
	changed  chan struct{} // Closed, and replaced, where one of these changes.
}

// New makes a host of tools; nothing is connected yet. options may be nil. It fails where there
// is no tool, two have one name, or an option makes no sense.
func New(client *sidecall.Client, tools []*Tool, options *Options) (*Host, error) {
	chosen := Options{}
	if options != nil {
		chosen = *options
	}
	if err := chosen.check(); err != nil {
		return nil, err
	}
	offer := &sidecallv1.HostAttach{
		HostName:        chosen.Name,
		MaxConcurrency:  int32(chosen.MaxConcurrency),
		UserAgent:       "sidecall-go/" + sidecall.Version,
		MaxMessageBytes: int64(client.MaxMessageBytes()),
	}
	byName := map[string]*Tool{}
	for _, tool := range tools {
		if byName[tool.Name()] != nil {
			return nil, fmt.Errorf("toolhost: two tools have the name %q", tool.Name())
		}
		byName[tool.Name()] = tool
		offer.Tools = append(offer.Tools, tool.message)
	}
	if len(tools) == 0 {
		return nil, errors.New("toolhost: a host needs at least one tool")
	}
	return &Host{
		service:      sidecallv1.NewToolHostServiceClient(client.Conn()),
		offer:        offer,
		runner:       newCallRunner(byName, chosen.MaxConcurrency, chosen.Logger),
		drainTimeout: chosen.DrainTimeout,
		log:          chosen.Logger,
		changed:      make(chan struct{}),
	}, nil
}

func (o *Options) check() error {
	if o.Name == "" {
		program := filepath.Base(os.Args[0])
		o.Name = fmt.Sprintf("%s %d", program[:min(len(program), maxProgramBytes)], os.Getpid())
	}
	o.Name = strings.ToValidUTF8(o.Name, "")
	if o.MaxConcurrency == 0 {
		o.MaxConcurrency = defaultSlots
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = defaultDrainTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	switch {
	case len(o.Name) > maxNameBytes:
		return fmt.Errorf("toolhost: the name of a host takes at most %d bytes", maxNameBytes)
	case o.MaxConcurrency < 0 || o.MaxConcurrency > maxSlots:
		return fmt.Errorf("toolhost: MaxConcurrency must be from 1 to %d, not %d", maxSlots, o.MaxConcurrency)
	case o.DrainTimeout < 0:
		return fmt.Errorf("toolhost: DrainTimeout must be positive, not %v", o.DrainTimeout)
	}
	return nil
}

// Run attaches to the sidecar, runs the calls that it sends, and attaches again by itself
// whenever the stream has ended. It does so until ctx is done; then it drains: the sidecar sends
// no more calls, and those in hand get the drain timeout to end. Functions see the values of ctx,
// not its end.
//
// It returns nil after a drain, [ErrDrainTimeout] where functions are left behind, and a
// [*sidecall.Error] where the sidecar refuses the host for good. It can be called once.
func (h *Host) Run(ctx context.Context) error {
	h.mu.Lock()
	used := h.used
	h.used = true
	h.mu.Unlock()
	if used {
		return ErrRunning
	}
	err := h.serve(ctx)
	if left := h.runner.wait(cancelledTime); err == nil && len(left) > 0 {
		err = fmt.Errorf("%w: %s", ErrDrainTimeout, strings.Join(left, ", "))
	}
	h.change(func() { h.attached, h.ended, h.refusal = false, true, err })
	return err
}

func (h *Host) serve(ctx context.Context) error {
	pauses := &backoff{now: time.Now, jitter: rand.Float64}
	told := false
	for ctx.Err() == nil {
		wasAttached, err := h.serveOnce(ctx, pauses)
		told = told && !wasAttached
		var failure *sidecall.Error
		if ctx.Err() != nil {
			break
		}
		why := "the sidecar ended the stream"
		var retryAfter *time.Duration
		if errors.As(err, &failure) {
			if !wasAttached && refuses(failure) {
				h.log.Error("the sidecar refuses the host", "host", h.offer.GetHostName(), "error", failure)
				return failure
			}
			why, retryAfter = failure.Error(), failure.RetryAfter
		}
		level := slog.LevelWarn
		if told { // Once is enough: a sidecar may be away for hours.
			level = slog.LevelDebug
		}
		told = true
		h.log.Log(ctx, level, "not attached, trying again", "reason", why)
		pause(ctx, pauses.next(retryAfter))
	}
	return nil
}

// serveOnce is one attachment, or an attempt at one.
func (h *Host) serveOnce(ctx context.Context, pauses *backoff) (wasAttached bool, err error) {
	a, err := h.attach(ctx)
	if err != nil {
		return false, err
	}
	defer a.cancel()
	pauses.attached()
	h.log.Info("attached", "host_id", a.attached.GetHostId())
	h.change(func() { h.attached = true })
	defer h.change(func() { h.attached = false })
	drained := make(chan struct{})
	drains := context.AfterFunc(ctx, func() {
		defer close(drained)
		a.drain(h.drainTimeout)
	})
	err = a.serve()
	if !drains() {
		<-drained
	}
	return true, err
}

// WaitAttached waits until the sidecar offers the tools. It fails with the context's error, or
// with what ended Run.
func (h *Host) WaitAttached(ctx context.Context) error {
	for {
		h.mu.Lock()
		attached, ended, refusal, changed := h.attached, h.ended, h.refusal, h.changed
		h.mu.Unlock()
		switch {
		case attached:
			return nil
		case ended && refusal != nil:
			return refusal
		case ended:
			return errors.New("toolhost: the host has ended")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Attached tells whether the sidecar offers the tools at present.
func (h *Host) Attached() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attached
}

func (h *Host) change(update func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	update()
	close(h.changed)
	h.changed = make(chan struct{})
}

// refuses tells whether attaching again in the same way has the same end.
func refuses(failure *sidecall.Error) bool {
	switch failure.Code {
	case codes.AlreadyExists, codes.InvalidArgument, codes.PermissionDenied,
		codes.Unauthenticated, codes.Unimplemented:
		return true
	case codes.ResourceExhausted:
		return failure.Reason == "" // gRPC's own: the offer is larger than a message may be.
	}
	return false
}

func pause(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
