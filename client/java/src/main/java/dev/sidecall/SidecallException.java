package dev.sidecall;

import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * An RPC to the sidecar ended with a status other than OK.
 *
 * <p>Failures of single calls are not exceptions: they are in the results.
 */
public final class SidecallException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** Status code of the RPC. */
  private final Status.Code code;

  /** The sidecar's reason. */
  private final String reason;

  /** Time after which to ask again. */
  private final @Nullable Duration retryAfter;

  /** Whether no call was started. */
  private final boolean notStarted;

  /** Where it may have been received. */
  private final String sentToInstance;

  SidecallException(
      String text,
      Status.Code code,
      String reason,
      @Nullable Duration retryAfter,
      boolean notStarted,
      @Nullable Throwable cause) {
    super((reason.isEmpty() ? code.name() : code.name() + "/" + reason) + ": " + text, cause);
    this.code = code;
    this.reason = reason;
    this.retryAfter = retryAfter;
    this.notStarted = notStarted;
    this.sentToInstance = "";
  }

  /**
   * Makes an error without a reason, after which calls may have run.
   *
   * @param text what went wrong
   * @param code status code
   */
  public SidecallException(String text, Status.Code code) {
    this(text, code, "", null, false, null);
  }

  /**
   * Makes an error of what gRPC threw at a stub of {@link SidecallClient#channel}.
   *
   * @param thrown a {@link io.grpc.StatusRuntimeException}, for example
   * @return the error
   */
  public static SidecallException fromRpc(Throwable thrown) {
    return RpcErrors.of(thrown);
  }

  private SidecallException(SidecallException error, boolean notStarted, String sentToInstance) {
    super(error.getMessage(), error.getCause());
    this.code = error.code;
    this.reason = error.reason;
    this.retryAfter = error.retryAfter;
    this.notStarted = notStarted;
    this.sentToInstance = sentToInstance;
    setStackTrace(error.getStackTrace());
  }

  /**
   * Status code of the RPC.
   *
   * @return the code
   */
  public Status.Code code() {
    return code;
  }

  /**
   * Reason that the sidecar gave.
   *
   * @return the reason in UPPER_SNAKE_CASE; empty where the error was not made by a sidecar
   */
  public String reason() {
    return reason;
  }

  /**
   * Time after which the sidecar wants to be asked again.
   *
   * @return the time; empty where it did not say
   */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /**
   * Whether it is certain that no call was started, by this RPC or by one that it repeats.
   *
   * @return false where calls may have run
   */
  public boolean notStarted() {
    return notStarted;
  }

  /**
   * Whether the same RPC may succeed a little later: after a lost connection, for example.
   *
   * @return whether it may
   */
  public boolean isTransient() {
    return code == Status.Code.UNAVAILABLE || retryAfter != null;
  }

  /**
   * Where the batch may have been received: for {@link BatchOptions.Builder#sentToInstance}, when
   * it is sent again under its request id.
   *
   * @return the instance of the sidecar; empty where nothing was started, or the batch must not be
   *     sent again
   */
  public String sentToInstance() {
    return sentToInstance;
  }

  /** The same error, about more than the last RPC. */
  SidecallException withNotStarted(boolean value) {
    return new SidecallException(this, value, sentToInstance);
  }

  /** The same error, saying where the batch may have been received. */
  SidecallException withSentToInstance(String value) {
    return new SidecallException(this, notStarted, value);
  }
}
