package toolhost

import "time"

const (
	initialPause = 100 * time.Millisecond
	maxPause     = 5 * time.Second
	// An attachment that lasted for so long begins the pauses anew.
	steadyTime = 10 * time.Second
)

// backoff makes pauses with exponential backoff and full jitter.
type backoff struct {
	now        func() time.Time
	jitter     func() float64 // Draws from [0, 1).
	bound      time.Duration
	attachedAt time.Time // Zero where the last attempt had no success.
}

func (b *backoff) attached() { b.attachedAt = b.now() }

// next returns the time until the next attempt. What the sidecar asked for is waited for in full.
func (b *backoff) next(retryAfter *time.Duration) time.Duration {
	if b.bound == 0 || !b.attachedAt.IsZero() && b.now().Sub(b.attachedAt) >= steadyTime {
		b.bound = initialPause
	}
	b.attachedAt = time.Time{}
	pause := time.Duration(b.jitter() * float64(b.bound))
	b.bound = min(b.bound*2, maxPause)
	if retryAfter != nil {
		pause += *retryAfter
	}
	return pause
}
