package dev.sidecall;

import com.google.protobuf.InvalidProtocolBufferException;
import dev.sidecall.internal.StatusDetails;
import io.grpc.Metadata;
import io.grpc.Status;
import java.net.ConnectException;
import java.net.NoRouteToHostException;
import java.net.PortUnreachableException;
import java.net.UnknownHostException;
import java.nio.channels.UnresolvedAddressException;
import java.util.Set;
import javax.net.ssl.SSLHandshakeException;
import org.jspecify.annotations.Nullable;

/** RPC errors as one exception that says whether anything was started. */
final class RpcErrors {
  /**
   * Reasons with which a sidecar refuses a request, so that nothing of it was started. INTERNAL is
   * none: it says nothing. Nor is REQUEST_FORGOTTEN: an earlier send may have started calls.
   */
  private static final Set<String> REJECTIONS =
      Set.of(
          "APPROVAL_UNKNOWN",
          "DEADLINE_EXPIRED",
          "DRAINING",
          "FEATURE_UNSUPPORTED",
          "PAGE_TOKEN_INVALID",
          "REQUEST_ID_REUSED",
          "REQUEST_INVALID",
          "REQUEST_MEMORY_FULL",
          "STORE_UNAVAILABLE",
          "TOOLS_CHANGED",
          "TOO_MANY_BATCHES");

  /** What Netty, which hides the class, makes of other errors of connecting: no such file, say. */
  private static final String NETTY_CONNECT_ERROR = "AnnotatedSocketException";

  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private RpcErrors() {}

  /** Makes an error of what an RPC ended with. */
  static SidecallException of(Status status, @Nullable Metadata trailers) {
    com.google.rpc.Status details = findDetails(trailers);
    String description = status.getDescription() == null ? "no details" : status.getDescription();
    if (details == null) {
      String text = withCause(description, status.getCause());
      return new SidecallException(
          text, status.getCode(), "", null, isNotConnected(status), status.getCause());
    }
    String reason = StatusDetails.reasonIn(details);
    return new SidecallException(
        details.getMessage().isEmpty() ? description : details.getMessage(),
        status.getCode(),
        reason,
        StatusDetails.retryDelay(details),
        REJECTIONS.contains(reason),
        status.getCause());
  }

  /** The error of something that gRPC threw. */
  static SidecallException of(Throwable thrown) {
    return of(Status.fromThrowable(thrown), Status.trailersFromThrowable(thrown));
  }

  private static com.google.rpc.@Nullable Status findDetails(@Nullable Metadata trailers) {
    byte[] packed = trailers == null ? null : trailers.get(DETAILS);
    if (packed == null) {
      return null;
    }
    try {
      return com.google.rpc.Status.parseFrom(packed);
    } catch (InvalidProtocolBufferException error) {
      return null;
    }
  }

  /** gRPC itself says "io exception" for all that goes wrong with a connection. */
  private static String withCause(String description, @Nullable Throwable cause) {
    String why = cause == null ? null : cause.getMessage();
    return why == null || description.contains(why) ? description : description + ": " + why;
  }

  /** Whether gRPC could not even connect; nothing of the RPC left this process then. */
  private static boolean isNotConnected(Status status) {
    if (status.getCode() != Status.Code.UNAVAILABLE) {
      return false;
    }
    for (Throwable cause = status.getCause(); cause != null; cause = cause.getCause()) {
      if (cause instanceof ConnectException
          || cause instanceof NoRouteToHostException
          || cause instanceof PortUnreachableException
          || cause instanceof UnknownHostException
          || cause instanceof UnresolvedAddressException
          || cause instanceof SSLHandshakeException
          || cause.getClass().getSimpleName().equals(NETTY_CONNECT_ERROR)) {
        return true;
      }
    }
    return false;
  }
}
