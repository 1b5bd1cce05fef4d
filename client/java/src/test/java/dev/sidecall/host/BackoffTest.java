package dev.sidecall.host;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.time.Duration;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

final class BackoffTest {
  private final AtomicLong now = new AtomicLong();
  private final Backoff backoff = new Backoff(now::get, () -> 0.5);

  @Test
  void pausesGrowToABound() {
    long[] millis = {50, 100, 200, 400, 800, 1600, 2500, 2500};
    for (long each : millis) {
      assertEquals(Duration.ofMillis(each), backoff.next(Duration.ZERO));
    }
    assertEquals(Duration.ofMillis(5500), backoff.next(Duration.ofSeconds(3)));
  }

  @Test
  void aSteadyAttachmentBeginsThemAnew() {
    assertEquals(Duration.ofMillis(50), backoff.next(Duration.ZERO));
    backoff.attached();
    assertEquals(Duration.ofMillis(100), backoff.next(Duration.ZERO));
    backoff.attached();
    now.addAndGet(Duration.ofSeconds(10).toNanos());
    assertEquals(Duration.ofMillis(50), backoff.next(Duration.ZERO));
  }
}
