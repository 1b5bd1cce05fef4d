package dev.sidecall.internal;

import com.google.protobuf.Duration;
import org.jspecify.annotations.Nullable;

/** Durations of Java and of the contract. */
public final class Durations {
  private Durations() {}

  /**
   * Checks that a duration is positive.
   *
   * @param name what it is, for the error
   * @param value the duration
   * @return the duration
   * @throws IllegalArgumentException it is not positive
   */
  public static java.time.Duration positive(String name, java.time.Duration value) {
    if (value.isZero() || value.isNegative()) {
      throw new IllegalArgumentException(name + " must be positive, not " + value);
    }
    return value;
  }

  /**
   * Makes the contract's message.
   *
   * @param value the duration
   * @return the message
   */
  public static Duration toProto(java.time.Duration value) {
    return Duration.newBuilder().setSeconds(value.getSeconds()).setNanos(value.getNano()).build();
  }

  /**
   * Reads the contract's message.
   *
   * @param value the message
   * @return the duration
   */
  public static java.time.Duration fromProto(Duration value) {
    return java.time.Duration.ofSeconds(value.getSeconds(), value.getNanos());
  }

  /**
   * The nanoseconds of a duration, as much of them as fit.
   *
   * @param value the duration; null for none
   * @return the nanoseconds; the largest number for none
   */
  public static long toNanos(java.time.@Nullable Duration value) {
    if (value == null || value.toSeconds() >= Long.MAX_VALUE / 1_000_000_000L) {
      return Long.MAX_VALUE;
    }
    return value.toNanos();
  }
}
