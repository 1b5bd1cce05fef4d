package dev.sidecall;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

final class AttemptsTest {
  private static final long MS = 1_000_000L;

  private final AtomicLong now = new AtomicLong();

  private Attempts attempts(int retries, @Nullable Duration timeout) {
    return new Attempts(retries, timeout, now::get, () -> 0.0);
  }

  private static SidecallException error(
      Status.Code code, boolean notStarted, @Nullable Duration retryAfter) {
    return new SidecallException("text", code, "", retryAfter, notStarted, null);
  }

  private static SidecallException refusal() {
    return error(Status.Code.UNAVAILABLE, true, null);
  }

  private static SidecallException loss() {
    return error(Status.Code.UNAVAILABLE, false, null);
  }

  private static long delay(Attempts attempts, SidecallException error) {
    return attempts.delayNanos(attempts.settle(error));
  }

  @Test
  void pausesGrowAndEnd() {
    Attempts attempts = attempts(7, null);
    long[] expected = {50, 100, 200, 400, 800, 1000, 1000};
    for (long each : expected) {
      assertEquals(each * MS, delay(attempts, refusal()));
    }
    assertEquals(-1, delay(attempts, refusal()));
  }

  @Test
  void whatMayHaveStartedIsSentAgainOnlyWhereThatIsHarmless() {
    assertEquals(-1, delay(attempts(3, null), loss()));
    assertEquals(50 * MS, delay(attempts(3, null).repeatable(true), loss()));
  }

  @Test
  void otherErrorsAreFinal() {
    SidecallException invalid = error(Status.Code.INVALID_ARGUMENT, true, null);
    assertEquals(-1, delay(attempts(3, null).repeatable(true), invalid));
  }

  @Test
  void theSidecarsDelayIsAdded() {
    Duration asked = Duration.ofSeconds(2);
    SidecallException full = error(Status.Code.RESOURCE_EXHAUSTED, true, asked);
    assertEquals(2050 * MS, delay(attempts(3, null), full));
    SidecallException later = error(Status.Code.UNAVAILABLE, true, Duration.ofSeconds(6));
    assertEquals(-1, delay(attempts(3, null), later));
  }

  @Test
  void noPauseOutlastsTheDeadline() {
    Attempts attempts = attempts(3, Duration.ofMillis(60));
    assertEquals(50 * MS, delay(attempts, refusal()));
    now.addAndGet(50 * MS);
    assertEquals(10 * MS, attempts.remainingNanos());
    assertEquals(-1, delay(attempts, refusal()));
  }

  @Test
  void byDefaultItGoesOnUntilTheDeadlineOnceSomethingMayHaveStarted() {
    Attempts attempts = attempts(Attempts.BY_DEFAULT, Duration.ofMinutes(5)).repeatable(true);
    for (int sends = 0; sends < 3 * Attempts.DEFAULT_RETRIES; sends++) {
      assertTrue(delay(attempts, loss()) > 0);
    }
    assertEquals(Long.MAX_VALUE, attempts(1, null).remainingNanos());
  }

  @Test
  void anErrorSpeaksOfAllAttempts() {
    Attempts attempts = attempts(3, null);
    assertTrue(attempts.settle(refusal()).notStarted());
    assertFalse(attempts.settle(loss()).notStarted());
    assertFalse(attempts.settle(refusal()).notStarted());
  }
}
