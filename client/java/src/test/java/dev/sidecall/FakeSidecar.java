package dev.sidecall;

import com.google.protobuf.Any;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import dev.sidecall.v1.BatchEvent;
import dev.sidecall.v1.ExecuteBatchRequest;
import dev.sidecall.v1.ExecuteBatchResponse;
import dev.sidecall.v1.GetCapabilitiesRequest;
import dev.sidecall.v1.GetCapabilitiesResponse;
import dev.sidecall.v1.ListToolsRequest;
import dev.sidecall.v1.ListToolsResponse;
import dev.sidecall.v1.StreamBatchRequest;
import dev.sidecall.v1.StreamBatchResponse;
import dev.sidecall.v1.Tool;
import dev.sidecall.v1.ToolCall;
import dev.sidecall.v1.ToolResult;
import dev.sidecall.v1.ToolServiceGrpc;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
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

/** A ToolService that does what a test says. */
final class FakeSidecar extends ToolServiceGrpc.ToolServiceImplBase
    implements ServerInterceptor, AutoCloseable {
  final Queue<RuntimeException> failures = new ConcurrentLinkedQueue<>();
  final BlockingQueue<ExecuteBatchRequest> batches = new LinkedBlockingQueue<>();
  final BlockingQueue<StreamBatchRequest> messages = new LinkedBlockingQueue<>();
  final BlockingQueue<Metadata> metadata = new LinkedBlockingQueue<>();
  volatile boolean answers = true;
  private final Server server;
  private final int port;

  FakeSidecar() throws IOException {
    server =
        NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
            .addService(ServerInterceptors.intercept(this, this))
            .build()
            .start();
    port = server.getPort();
  }

  SidecallClientBuilder client() {
    return SidecallClient.builder().endpoint("127.0.0.1:" + port);
  }

  /** A status as the sidecar makes it. */
  static RuntimeException refusal(Code code, String reason) {
    ErrorInfo info = ErrorInfo.newBuilder().setDomain("sidecall.dev").setReason(reason).build();
    return StatusProto.toStatusRuntimeException(
        Status.newBuilder()
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
  public <Q, P> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, P> call, Metadata headers, ServerCallHandler<Q, P> next) {
    metadata.add(headers);
    return next.startCall(call, headers);
  }

  @Override
  public void getCapabilities(
      GetCapabilitiesRequest request, StreamObserver<GetCapabilitiesResponse> response) {
    response.onNext(GetCapabilitiesResponse.newBuilder().setInstanceId("instance").build());
    response.onCompleted();
  }

  @Override
  public void listTools(ListToolsRequest request, StreamObserver<ListToolsResponse> response) {
    boolean first = request.getPageToken().isEmpty();
    if (!first && fails(response)) {
      return;
    }
    ListToolsResponse.Builder page = ListToolsResponse.newBuilder();
    page.addTools(Tool.newBuilder().setName(first ? "a" : "b"));
    response.onNext(page.setNextPageToken(first ? "more" : "").build());
    response.onCompleted();
  }

  @Override
  public void executeBatch(
      ExecuteBatchRequest request, StreamObserver<ExecuteBatchResponse> response) {
    batches.add(request);
    if (!answers || fails(response)) {
      return;
    }
    ExecuteBatchResponse.Builder answer =
        ExecuteBatchResponse.newBuilder().setRequestId(request.getRequestId());
    for (ToolCall call : request.getCallsList()) {
      answer.addResults(ToolResult.newBuilder().setCallId(call.getId()).setContent("done"));
    }
    response.onNext(answer.build());
    response.onCompleted();
  }

  @Override
  public StreamObserver<StreamBatchRequest> streamBatch(
      StreamObserver<StreamBatchResponse> response) {
    return new StreamObserver<>() {
      private int calls;

      @Override
      public void onNext(StreamBatchRequest message) {
        messages.add(message);
        StreamBatchResponse.Builder answer = StreamBatchResponse.newBuilder();
        switch (message.getMessageCase()) {
          case START -> {
            if (fails(response)) {
              return;
            }
            answer.addEventsBuilder().getAcceptedBuilder();
          }
          case CALL -> calls++;
          case SEAL -> {
            for (int index = 0; index < calls; index++) {
              BatchEvent.Builder event = answer.addEventsBuilder();
              event.getResultBuilder().setIndex(index).getResultBuilder().setContent("done");
            }
            answer.addEventsBuilder().getSummaryBuilder().setCallCount(calls).setSealed(true);
          }
          default -> {
            return;
          }
        }
        if (answer.getEventsCount() > 0) {
          response.onNext(answer.build());
        }
      }

      @Override
      public void onError(Throwable error) {}

      @Override
      public void onCompleted() {
        response.onCompleted();
      }
    };
  }

  private boolean fails(StreamObserver<?> response) {
    RuntimeException failure = failures.poll();
    if (failure != null) {
      response.onError(failure);
    }
    return failure != null;
  }
}
