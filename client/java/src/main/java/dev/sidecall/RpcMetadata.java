package dev.sidecall;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import java.util.Map;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/** Sends metadata and the token with each RPC. */
final class RpcMetadata implements ClientInterceptor {
  private static final Metadata.Key<String> AUTHORIZATION = key("authorization");

  private final Supplier<? extends Map<String, String>> metadata;
  private final @Nullable Supplier<String> token;

  RpcMetadata(Supplier<? extends Map<String, String>> metadata, @Nullable Supplier<String> token) {
    this.metadata = metadata;
    this.token = token;
  }

  @Override
  public <Q, P> ClientCall<Q, P> interceptCall(
      MethodDescriptor<Q, P> method, CallOptions options, Channel next) {
    return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
      @Override
      public void start(Listener<P> listener, Metadata headers) {
        metadata.get().forEach((name, value) -> headers.put(key(name), value));
        if (token != null) {
          headers.put(AUTHORIZATION, "Bearer " + token.get());
        }
        super.start(listener, headers);
      }
    };
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }
}
