package sidecall

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// A sidecar that restarts serves again within the pauses of these retries, 2.5 to 5
	// seconds together.
	defaultRetries = 6
	initialBackoff = 100 * time.Millisecond
	maxBackoff     = 2 * time.Second
)

// attempts are those of one RPC, within the deadline of its context.
type attempts struct {
	left int
	// repeatable: sending again is harmless even if the RPC was received.
	repeatable bool
	// mayHaveStarted: something may have been started by what was sent so far.
	mayHaveStarted bool
	backoff        time.Duration
	jitter         func() float64
}

func newAttempts(retries int) *attempts {
	return &attempts{left: retries, backoff: initialBackoff, jitter: rand.Float64}
}

// pause returns the time to wait before the next attempt; not ok: the error is final. The
// error then speaks of all attempts: where an earlier one may have started calls, it is no
// longer NotStarted.
func (a *attempts) pause(ctx context.Context, failure *Error) (delay time.Duration, ok bool) {
	a.mayHaveStarted = a.mayHaveStarted || !failure.NotStarted
	failure.NotStarted = !a.mayHaveStarted
	if a.left <= 0 || !failure.IsTransient() || !(failure.NotStarted || a.repeatable) {
		return 0, false
	}
	a.left--
	// Half of it is sure: pauses of next to nothing would be over before a restart is.
	delay = time.Duration((1 + a.jitter()) / 2 * float64(a.backoff))
	a.backoff = min(a.backoff*2, maxBackoff)
	if failure.RetryAfter != nil {
		delay += *failure.RetryAfter
	}
	if deadline, has := ctx.Deadline(); has && delay >= time.Until(deadline) {
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
