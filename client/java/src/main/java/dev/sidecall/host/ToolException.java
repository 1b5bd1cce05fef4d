package dev.sidecall.host;

import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * Thrown by a function to tell the model what went wrong.
 *
 * <p>Its text reaches the model. The text of any other exception stays in the process.
 */
public final class ToolException extends Exception {
  private static final long serialVersionUID = 1L;

  /** Status code. */
  private final Status.Code code;

  /** Time after which the call may be made again. */
  private final @Nullable Duration retryAfter;

  /**
   * Makes an error with the code UNKNOWN.
   *
   * @param message for the model: what went wrong and what it can do about it
   */
  public ToolException(String message) {
    this(message, Status.Code.UNKNOWN, null);
  }

  /**
   * Makes an error.
   *
   * @param message for the model: what went wrong and what it can do about it
   * @param code any but OK
   */
  public ToolException(String message, Status.Code code) {
    this(message, code, null);
  }

  /**
   * Makes an error.
   *
   * @param message for the model: what went wrong and what it can do about it
   * @param code any but OK
   * @param retryAfter time after which the call may be made again; null where unknown
   */
  public ToolException(String message, Status.Code code, @Nullable Duration retryAfter) {
    super(message);
    if (code == Status.Code.OK) {
      throw new IllegalArgumentException("an error cannot have the code OK");
    }
    if (retryAfter != null && retryAfter.isNegative()) {
      throw new IllegalArgumentException("retryAfter must not be negative, but is " + retryAfter);
    }
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /**
   * Status code.
   *
   * @return the code
   */
  public Status.Code code() {
    return code;
  }

  /**
   * Time after which the call may be made again.
   *
   * @return the time; empty where unknown
   */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }
}
