package dev.sidecall;

import com.google.protobuf.MessageLite;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import org.jspecify.annotations.Nullable;

/**
 * Fails an RPC that sends too large a message. gRPC's own limit leaves the RPC without an end where
 * it is not connected yet.
 */
final class MessageLimit implements ClientInterceptor {
  private final int maxBytes;

  MessageLimit(int maxBytes) {
    this.maxBytes = maxBytes;
  }

  @Override
  public <Q, P> ClientCall<Q, P> interceptCall(
      MethodDescriptor<Q, P> method, CallOptions options, Channel next) {
    return new Limited<>(next.newCall(method, options), maxBytes);
  }

  private static final class Limited<Q, P> extends SimpleForwardingClientCall<Q, P> {
    private final int maxBytes;
    private volatile @Nullable Status refusal;

    Limited(ClientCall<Q, P> call, int maxBytes) {
      super(call);
      this.maxBytes = maxBytes;
    }

    @Override
    public void start(Listener<P> listener, Metadata headers) {
      super.start(
          new SimpleForwardingClientCallListener<>(listener) {
            @Override
            public void onClose(Status status, Metadata trailers) {
              Status own = refusal;
              super.onClose(own == null ? status : own, trailers);
            }
          },
          headers);
    }

    @Override
    public void sendMessage(Q message) {
      int size = message instanceof MessageLite known ? known.getSerializedSize() : 0;
      if (refusal != null) {
        return;
      }
      if (size <= maxBytes) {
        super.sendMessage(message);
        return;
      }
      String text = "a message of " + size + " bytes is larger than the " + maxBytes + " allowed";
      refusal = Status.RESOURCE_EXHAUSTED.withDescription(text);
      cancel(text, null);
    }

    @Override
    public void halfClose() {
      if (refusal == null) {
        super.halfClose();
      }
    }
  }
}
