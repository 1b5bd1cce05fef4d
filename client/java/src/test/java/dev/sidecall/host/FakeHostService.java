package dev.sidecall.host;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.ErrorInfo;
import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallClientBuilder;
import dev.sidecall.v1.AttachRequest;
import dev.sidecall.v1.AttachResponse;
import dev.sidecall.v1.HostAttached;
import dev.sidecall.v1.HostCall;
import dev.sidecall.v1.HostCancel;
import dev.sidecall.v1.HostDraining;
import dev.sidecall.v1.ToolHostServiceGrpc;
import io.grpc.Server;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.Queue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/** A ToolHostService without a sidecar. */
final class FakeHostService extends ToolHostServiceGrpc.ToolHostServiceImplBase
    implements AutoCloseable {
  private static final long WAIT_S = 60;

  final Queue<RuntimeException> refusals = new ConcurrentLinkedQueue<>();
  final BlockingQueue<Attached> attachments = new LinkedBlockingQueue<>();
  volatile Duration heartbeatInterval = Duration.newBuilder().setSeconds(10).build();
  volatile Duration silenceTimeout = Duration.getDefaultInstance();
  volatile long maxMessageBytes = 1_000_000;
  private final Server server;

  /** One attachment. */
  static final class Attached {
    final BlockingQueue<AttachRequest> messages = new LinkedBlockingQueue<>();
    final BlockingQueue<String> ends = new LinkedBlockingQueue<>();
    private final StreamObserver<AttachResponse> responses;

    Attached(StreamObserver<AttachResponse> responses) {
      this.responses = responses;
    }

    void call(long attemptId, String name, String arguments) {
      send(HostCall.newBuilder().setAttemptId(attemptId).setName(name).setArguments(arguments));
    }

    synchronized void send(HostCall.Builder call) {
      responses.onNext(AttachResponse.newBuilder().setCall(call).build());
    }

    synchronized void cancel(long attemptId) {
      HostCancel.Builder cancel = HostCancel.newBuilder().setAttemptId(attemptId);
      responses.onNext(AttachResponse.newBuilder().setCancel(cancel).build());
    }

    synchronized void drain() {
      HostDraining draining = HostDraining.getDefaultInstance();
      responses.onNext(AttachResponse.newBuilder().setDraining(draining).build());
    }

    synchronized void fail(RuntimeException status) {
      responses.onError(status);
    }

    /** The next message that is no heartbeat. */
    AttachRequest next() throws InterruptedException {
      AttachRequest message = within(messages.poll(WAIT_S, TimeUnit.SECONDS));
      return message.hasHeartbeat() ? next() : message;
    }
  }

  FakeHostService() throws IOException {
    server =
        NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
            .addService(this)
            .build()
            .start();
  }

  SidecallClientBuilder client() {
    return SidecallClient.builder().endpoint("127.0.0.1:" + server.getPort());
  }

  Attached next() throws InterruptedException {
    return within(attachments.poll(WAIT_S, TimeUnit.SECONDS));
  }

  /** A status as the sidecar makes it. */
  static RuntimeException refusal(com.google.rpc.Code code, String reason) {
    ErrorInfo info = ErrorInfo.newBuilder().setDomain("sidecall.dev").setReason(reason).build();
    return StatusProto.toStatusRuntimeException(
        com.google.rpc.Status.newBuilder()
            .setCode(code.getNumber())
            .setMessage("refused")
            .addDetails(Any.pack(info))
            .build());
  }

  @Override
  public void close() {
    server.shutdownNow();
  }

  @Override
  public StreamObserver<AttachRequest> attach(StreamObserver<AttachResponse> responses) {
    Attached attached = new Attached(responses);
    return new StreamObserver<>() {
      @Override
      public void onNext(AttachRequest message) {
        attached.messages.add(message);
        if (message.hasAttach()) {
          accept(attached, responses);
        }
      }

      @Override
      public void onError(Throwable error) {
        attached.ends.add("cancelled");
      }

      @Override
      public void onCompleted() {
        attached.ends.add("half-closed");
        responses.onCompleted();
      }
    };
  }

  private void accept(Attached attached, StreamObserver<AttachResponse> responses) {
    RuntimeException refusal = refusals.poll();
    if (refusal != null) {
      responses.onError(refusal);
      return;
    }
    HostAttached.Builder answer =
        HostAttached.newBuilder()
            .setHostId("host-1")
            .setHeartbeatInterval(heartbeatInterval)
            .setSilenceTimeout(silenceTimeout)
            .setMaxMessageBytes(maxMessageBytes);
    responses.onNext(AttachResponse.newBuilder().setAttached(answer).build());
    attachments.add(attached);
  }

  private static <T> T within(@Nullable T value) {
    if (value == null) {
      throw new AssertionError("nothing came in time");
    }
    return value;
  }
}
