package dev.sidecall.internal;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import java.lang.System.Logger.Level;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** What a {@code google.rpc.Status} says beside its code and message. */
public final class StatusDetails {
  private static final System.Logger LOG = System.getLogger("dev.sidecall");
  private static final String ERROR_DOMAIN = "sidecall.dev";

  private StatusDetails() {}

  /**
   * The details of one type.
   *
   * @param status the status
   * @param type the type
   * @param <M> the type
   * @return the details, in order
   */
  public static <M extends Message> List<M> detailsOf(Status status, Class<M> type) {
    List<M> found = new ArrayList<>();
    for (Any packed : status.getDetailsList()) {
      if (packed.is(type)) {
        try {
          found.add(packed.unpack(type));
        } catch (InvalidProtocolBufferException error) {
          // A detail that cannot be read says nothing; the code and the message stand.
          LOG.log(Level.DEBUG, "a detail of a status cannot be read", error);
        }
      }
    }
    return found;
  }

  /**
   * The sidecar's reason.
   *
   * @param status the status
   * @return the reason in UPPER_SNAKE_CASE; empty where it gave none
   */
  public static String reasonIn(Status status) {
    for (ErrorInfo info : detailsOf(status, ErrorInfo.class)) {
      if (info.getDomain().equals(ERROR_DOMAIN)) {
        return info.getReason();
      }
    }
    return "";
  }

  /**
   * The time after which to ask again.
   *
   * @param status the status
   * @return the time; null where nothing was said
   */
  public static @Nullable Duration retryDelay(Status status) {
    for (RetryInfo retry : detailsOf(status, RetryInfo.class)) {
      Duration delay = Durations.fromProto(retry.getRetryDelay());
      return delay.isNegative() ? Duration.ZERO : delay;
    }
    return null;
  }
}
