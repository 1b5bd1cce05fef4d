package sidecall

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func attemptsOf(retries int) *attempts {
	a := newAttempts(&retries)
	a.jitter = func() float64 { return 1 }
	return a
}

func TestPausesGrowToTheirBound(t *testing.T) {
	a := attemptsOf(6)
	var pauses []time.Duration
	for {
		pause, again := a.pause(t.Context(), &Error{Code: codes.Unavailable, NotStarted: true})
		if !again {
			break
		}
		pauses = append(pauses, pause)
	}

	if len(pauses) != 6 || pauses[0] != 100*time.Millisecond || pauses[1] != 200*time.Millisecond || pauses[5] != 2*time.Second {
		t.Error(pauses)
	}
}

func TestWhatTheSidecarAsksForIsAdded(t *testing.T) {
	asked := time.Second
	pause, again := attemptsOf(1).pause(t.Context(), &Error{
		Code: codes.ResourceExhausted, RetryAfter: &asked, NotStarted: true,
	})

	if !again || pause != 1100*time.Millisecond {
		t.Error(pause, again)
	}
}

func TestNoPauseOutlastsTheDeadline(t *testing.T) {
	asked := time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	if _, again := attemptsOf(1).pause(ctx, &Error{
		Code: codes.Unavailable, RetryAfter: &asked, NotStarted: true,
	}); again {
		t.Error("it waits beyond the deadline")
	}
}

func TestALongPauseIsLeftToTheCaller(t *testing.T) {
	asked := 6 * time.Second
	if _, again := attemptsOf(1).pause(t.Context(), &Error{
		Code: codes.ResourceExhausted, RetryAfter: &asked, NotStarted: true,
	}); again {
		t.Error("it waits for long")
	}
}

func TestWhatMayHaveStartedIsAskedForUntilTheDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	a := newAttempts(nil)
	a.repeatable = true
	for attempt := range 100 {
		if _, again := a.pause(ctx, &Error{Code: codes.Unavailable}); !again {
			t.Fatal("it gave up after", attempt)
		}
	}
	if _, again := a.pause(t.Context(), &Error{Code: codes.Unavailable}); again {
		t.Error("without a deadline it goes on for ever")
	}
}

func TestAnErrorSpeaksOfAllAttempts(t *testing.T) {
	a := attemptsOf(5)
	a.repeatable = true
	if _, again := a.pause(t.Context(), &Error{Code: codes.Unavailable}); !again {
		t.Fatal("what is repeatable is not sent again")
	}
	refused := &Error{Code: codes.FailedPrecondition, NotStarted: true}

	if _, again := a.pause(t.Context(), refused); again || refused.NotStarted {
		t.Error("an earlier attempt may have started calls, but the error says none did")
	}
}
