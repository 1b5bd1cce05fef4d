package dev.sidecall.host;

import java.time.Duration;
import java.util.function.DoubleSupplier;
import java.util.function.LongSupplier;

/** How long a host waits before it attaches again: exponential backoff with full jitter. */
final class Backoff {
  private static final long INITIAL_NANOS = 100_000_000L;
  private static final long MAX_NANOS = 5_000_000_000L;

  /** An attachment that lasted for so long begins the pauses anew. */
  private static final long STEADY_NANOS = 10_000_000_000L;

  private final LongSupplier nanoTime;
  private final DoubleSupplier jitter;
  private long boundNanos = INITIAL_NANOS;
  private boolean wasAttached;
  private long attachedAtNanos;

  /**
   * Takes where time and chance come from.
   *
   * @param nanoTime monotonic nanoseconds
   * @param jitter draws from [0, 1)
   */
  Backoff(LongSupplier nanoTime, DoubleSupplier jitter) {
    this.nanoTime = nanoTime;
    this.jitter = jitter;
  }

  /** Says that an attempt had success. */
  void attached() {
    wasAttached = true;
    attachedAtNanos = nanoTime.getAsLong();
  }

  /**
   * Time until the next attempt.
   *
   * @param retryAfter what the sidecar asked for, which is waited for in full
   */
  Duration next(Duration retryAfter) {
    if (wasAttached && nanoTime.getAsLong() - attachedAtNanos >= STEADY_NANOS) {
      boundNanos = INITIAL_NANOS;
    }
    wasAttached = false;
    long pause = (long) (jitter.getAsDouble() * boundNanos);
    boundNanos = Math.min(boundNanos * 2, MAX_NANOS);
    return retryAfter.plusNanos(pause);
  }
}
