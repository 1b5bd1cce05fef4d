package dev.sidecall;

import dev.sidecall.internal.Durations;
import java.time.Duration;
import java.util.function.DoubleSupplier;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;

/** The attempts of one RPC within its deadline: when it may be sent again, and after how long. */
final class Attempts {
  /** A sidecar that restarts serves again within their pauses, 3.5 to 7 seconds together. */
  static final int DEFAULT_RETRIES = 7;

  /** Says that nobody chose a number of retries. */
  static final int BY_DEFAULT = -1;

  /**
   * A sidecar that asks for a longer pause before the next attempt gets none: whether to wait so
   * long is the caller's choice, who may have other things to do.
   */
  private static final Duration LONGEST_WAIT = Duration.ofSeconds(5);

  private static final long INITIAL_BACKOFF_NANOS = 100_000_000L;
  private static final long MAX_BACKOFF_NANOS = 2_000_000_000L;
  private static final long UNBOUNDED = Long.MAX_VALUE;

  private final LongSupplier nanoTime;
  private final DoubleSupplier jitter;
  private final long startNanos;
  private final long timeoutNanos;
  private final boolean byDefault;
  private int left;
  private long backoffNanos = INITIAL_BACKOFF_NANOS;
  private boolean repeatable;
  private boolean mayHaveStarted;

  /**
   * Counts the attempts of one RPC.
   *
   * @param retries most attempts after the first; BY_DEFAULT for the default, or, where there is a
   *     deadline, for as many as fit once something may have been started: who gives up then never
   *     learns of it
   * @param timeout time for all attempts together; null for no bound
   * @param nanoTime monotonic nanoseconds
   * @param jitter draws from [0, 1)
   */
  Attempts(int retries, @Nullable Duration timeout, LongSupplier nanoTime, DoubleSupplier jitter) {
    this.byDefault = retries == BY_DEFAULT;
    this.left = byDefault ? DEFAULT_RETRIES : retries;
    this.timeoutNanos = Durations.toNanos(timeout);
    this.nanoTime = nanoTime;
    this.jitter = jitter;
    this.startNanos = nanoTime.getAsLong();
  }

  Attempts(int retries, @Nullable Duration timeout) {
    this(retries, timeout, System::nanoTime, Math::random);
  }

  /** Attempts of an RPC that changes nothing, within the same deadline. */
  Attempts forReading(int retries) {
    Duration left = hasDeadline() ? Duration.ofNanos(remainingNanos()) : null;
    return new Attempts(retries, left, nanoTime, jitter).repeatable(true);
  }

  /** Says whether sending again is harmless even if the RPC was received. */
  Attempts repeatable(boolean value) {
    repeatable = value;
    return this;
  }

  /** Says whether an earlier RPC may have started what this one asks for. */
  Attempts mayHaveStarted(boolean value) {
    mayHaveStarted = value;
    return this;
  }

  /** Whether something may have been started by what was sent so far. */
  boolean mayHaveStarted() {
    return mayHaveStarted;
  }

  boolean hasDeadline() {
    return timeoutNanos != UNBOUNDED;
  }

  /** Nanoseconds until the deadline, never negative; the largest number for no bound. */
  long remainingNanos() {
    if (!hasDeadline()) {
      return UNBOUNDED;
    }
    return Math.max(0, timeoutNanos - (nanoTime.getAsLong() - startNanos));
  }

  /**
   * What an attempt's error means for all attempts: where an earlier one may have started calls, it
   * is no longer "not started".
   */
  SidecallException settle(SidecallException error) {
    mayHaveStarted |= !error.notStarted();
    return error.withNotStarted(!mayHaveStarted);
  }

  /** Nanoseconds to wait before the next attempt; -1: the error, once settled, is final. */
  long delayNanos(SidecallException error) {
    if (!mayGoOn() || !mayRepeat(error)) {
      return -1;
    }
    left--;
    // Half of it is sure: pauses of next to nothing would be over before a restart is.
    long delay = (long) ((1 + jitter.getAsDouble()) / 2 * backoffNanos);
    backoffNanos = Math.min(backoffNanos * 2, MAX_BACKOFF_NANOS);
    delay += error.retryAfter().map(Duration::toNanos).orElse(0L);
    return delay < remainingNanos() ? delay : -1;
  }

  private boolean mayGoOn() {
    return left > 0 || (byDefault && mayHaveStarted && hasDeadline());
  }

  private boolean mayRepeat(SidecallException error) {
    boolean asksTooMuch =
        error.retryAfter().map(wait -> wait.compareTo(LONGEST_WAIT) > 0).orElse(false);
    return !asksTooMuch && error.isTransient() && (error.notStarted() || repeatable);
  }
}
