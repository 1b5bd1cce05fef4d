package sidecall

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// A sidecar that restarts serves again within the pauses of these retries, 3.5 to 7
	// seconds together.
	defaultRetries = 7
	// A sidecar that asks for a longer pause before the next attempt gets none: whether to wait
	// so long is the caller's choice, who may have other things to do.
	longestWait    = 5 * time.Second
	initialBackoff = 100 * time.Millisecond
	maxBackoff     = 2 * time.Second
)

// attempts are those of one RPC, within the deadline of its context.
type attempts struct {
	left int
	// insists: with a deadline there are as many attempts as fit once something may have been
	// started. Who gives up then never learns of it.
	insists bool
	// repeatable: sending again is harmless even if the RPC was received.
	repeatable bool
	// mayHaveStarted: something may have been started by what was sent so far.
	mayHaveStarted bool
	backoff        time.Duration
	jitter         func() float64
}

// newAttempts makes them; retries is nil for the default.
func newAttempts(retries *int) *attempts {
	a := &attempts{left: defaultRetries, insists: true, backoff: initialBackoff, jitter: rand.Float64}
	if retries != nil {
		a.left, a.insists = *retries, false
	}
	return a
}

// pause returns the time to wait before the next attempt; not ok: the error is final. The
// error then speaks of all attempts: where an earlier one may have started calls, it is no
// longer NotStarted.
func (a *attempts) pause(ctx context.Context, failure *Error) (delay time.Duration, ok bool) {
	a.mayHaveStarted = a.mayHaveStarted || !failure.NotStarted
	failure.NotStarted = !a.mayHaveStarted
	deadline, bounded := ctx.Deadline()
	mayGoOn := a.left > 0 || a.insists && a.mayHaveStarted && bounded
	if !mayGoOn || !failure.IsTransient() || !(failure.NotStarted || a.repeatable) {
		return 0, false
	}
	if failure.RetryAfter != nil && *failure.RetryAfter > longestWait {
		return 0, false
	}
	a.left--
	// Half of it is sure: pauses of next to nothing would be over before a restart is.
	delay = time.Duration((1 + a.jitter()) / 2 * float64(a.backoff))
	a.backoff = min(a.backoff*2, maxBackoff)
	if failure.RetryAfter != nil {
		delay += *failure.RetryAfter
	}
	if bounded && delay >= time.Until(deadline) {
		return 0, false
	}
	return delay, true
}

// sleep waits, and returns early with the context's error.
func sleep(ctx context.Context, delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
