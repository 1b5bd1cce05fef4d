package dev.sidecall;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.MultiThreadIoEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.nio.NioIoHandler;
import io.grpc.netty.shaded.io.netty.channel.socket.nio.NioDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.util.concurrent.DefaultThreadFactory;
import java.lang.System.Logger.Level;
import java.net.UnixDomainSocketAddress;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/** A connection to one sidecar, and the channel of its RPCs. */
final class Connection implements AutoCloseable {
  private static final System.Logger LOG = System.getLogger("dev.sidecall");
  private static final long DIAL_NANOS = 100_000_000L;

  private final ManagedChannel managed;
  private final Channel channel;
  private final @Nullable EventLoopGroup eventLoops;

  private Connection(
      ManagedChannel managed,
      List<ClientInterceptor> interceptors,
      @Nullable EventLoopGroup eventLoops) {
    this.managed = managed;
    this.channel = ClientInterceptors.interceptForward(new Near(managed), interceptors);
    this.eventLoops = eventLoops;
  }

  static Connection open(
      Endpoint endpoint,
      ChannelCredentials credentials,
      int maxMessageBytes,
      List<ClientInterceptor> interceptors) {
    UnixDomainSocketAddress socket = endpoint.socketAddress();
    NettyChannelBuilder builder;
    EventLoopGroup eventLoops = null;
    if (socket == null) {
      builder = NettyChannelBuilder.forTarget("dns:///" + endpoint.target(), credentials);
    } else {
      // The JDK's own sockets: they need no native library.
      eventLoops =
          new MultiThreadIoEventLoopGroup(
              1, new DefaultThreadFactory("sidecall-unix", true), NioIoHandler.newFactory());
      builder =
          NettyChannelBuilder.forAddress(socket, credentials)
              .channelType(NioDomainSocketChannel.class, UnixDomainSocketAddress.class)
              .eventLoopGroup(eventLoops)
              // Not given at all: a unix socket does not know it, and Netty warns of that.
              .withOption(ChannelOption.SO_KEEPALIVE, null)
              // The socket's path would become the authority, which many servers refuse.
              .overrideAuthority("localhost");
    }
    if (endpoint.isLocal()) {
      builder.proxyDetector(address -> null);
    }
    builder
        .maxInboundMessageSize(maxMessageBytes)
        .disableServiceConfigLookUp()
        .userAgent("sidecall-java/" + Sidecall.VERSION);
    return new Connection(builder.build(), interceptors, eventLoops);
  }

  /** A channel whose RPCs carry the client's metadata. */
  Channel channel() {
    return channel;
  }

  /**
   * Waits a moment for a connection that was lost: without it an RPC fails at once where gRPC
   * pauses before it dials again.
   *
   * @param boundNanos longest time to wait
   */
  void redial(long boundNanos) throws InterruptedException {
    if (managed.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
      managed.resetConnectBackoff();
      awaitReady(Math.min(DIAL_NANOS, boundNanos));
    }
  }

  /**
   * Waits for a connection.
   *
   * @param boundNanos longest time to wait
   * @return whether there is one
   */
  boolean awaitReady(long boundNanos) throws InterruptedException {
    long endNanos = System.nanoTime() + boundNanos;
    while (true) {
      ConnectivityState state = managed.getState(true);
      long leftNanos = endNanos - System.nanoTime();
      if (state == ConnectivityState.READY || state == ConnectivityState.SHUTDOWN) {
        return state == ConnectivityState.READY;
      }
      if (leftNanos <= 0) {
        return false;
      }
      managed.resetConnectBackoff();
      CountDownLatch changed = new CountDownLatch(1);
      managed.notifyWhenStateChanged(state, changed::countDown);
      // Also a state that does not change may hide an attempt to connect that has failed.
      boolean isChanged = changed.await(Math.min(leftNanos, DIAL_NANOS), TimeUnit.NANOSECONDS);
      LOG.log(Level.TRACE, "connection to the sidecar: {0}, changed: {1}", state, isChanged);
    }
  }

  /** Ends all RPCs and the connection. */
  @Override
  @SuppressWarnings("FutureReturnValueIgnored") // Nobody needs to know when the thread has ended.
  public void close() {
    managed.shutdownNow();
    if (eventLoops != null) {
      eventLoops.shutdownGracefully(0, 1, TimeUnit.SECONDS);
    }
  }

  /** A sidecar is near: when it restarts, seconds of pauses before gRPC dials serve nobody. */
  private static final class Near extends Channel {
    private final ManagedChannel managed;

    Near(ManagedChannel managed) {
      this.managed = managed;
    }

    @Override
    public <Q, P> ClientCall<Q, P> newCall(MethodDescriptor<Q, P> method, CallOptions options) {
      if (managed.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
        managed.resetConnectBackoff();
      }
      return managed.newCall(method, options);
    }

    @Override
    public String authority() {
      return managed.authority();
    }
  }
}
