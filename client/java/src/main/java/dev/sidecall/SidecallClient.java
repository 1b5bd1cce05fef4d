package dev.sidecall;

import dev.sidecall.v1.ExecuteBatchRequest;
import dev.sidecall.v1.ExecuteBatchResponse;
import dev.sidecall.v1.GetCapabilitiesRequest;
import dev.sidecall.v1.GetCapabilitiesResponse;
import dev.sidecall.v1.ListToolsRequest;
import dev.sidecall.v1.ListToolsResponse;
import dev.sidecall.v1.Tool;
import dev.sidecall.v1.ToolCall;
import dev.sidecall.v1.ToolResult;
import dev.sidecall.v1.ToolServiceGrpc;
import dev.sidecall.v1.ToolServiceGrpc.ToolServiceBlockingStub;
import io.grpc.Channel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/**
 * A blocking client of one sidecar. It may be shared between threads.
 *
 * <p>An interrupt cancels the RPC in hand. An RPC is sent again by itself where that certainly runs
 * no call twice: it started nothing, or has a request id that the sidecar knows.
 */
public final class SidecallClient implements AutoCloseable {
  private static final int MAX_LISTINGS = 5;
  // Codes of an RPC that nobody answered.
  private static final Set<Status.Code> NO_ANSWER =
      Set.of(Status.Code.UNAVAILABLE, Status.Code.DEADLINE_EXCEEDED);
  private static final Duration READY_POLL = Duration.ofMillis(50);

  private final Connection connection;
  private final int maxMessageBytes;
  private final int retries;
  private volatile String instanceId = "";
  private volatile boolean closed;

  SidecallClient(Connection connection, int maxMessageBytes, int retries) {
    this.connection = connection;
    this.maxMessageBytes = maxMessageBytes;
    this.retries = retries;
  }

  /**
   * Makes a client with all defaults: of the sidecar at the environment's SIDECALL_ENDPOINT, else
   * at 127.0.0.1:50071.
   *
   * @return the client
   * @throws IllegalArgumentException a variable of the environment makes no sense
   */
  public static SidecallClient create() {
    return builder().build();
  }

  /**
   * Begins a client.
   *
   * @return a builder
   */
  public static SidecallClientBuilder builder() {
    return new SidecallClientBuilder(System::getenv);
  }

  /** Closes the connection for good. RPCs in flight end CANCELLED; later ones are refused. */
  @Override
  public void close() {
    closed = true;
    connection.close();
  }

  /**
   * The channel of the RPCs: for other services of the sidecar. It carries the client's token and
   * metadata, and ends with the client.
   *
   * @return the channel
   */
  public Channel channel() {
    return connection.channel();
  }

  /**
   * Largest message sent or received.
   *
   * @return bytes
   */
  public int maxMessageBytes() {
    return maxMessageBytes;
  }

  /**
   * Waits until the sidecar serves.
   *
   * @param timeout how long to wait
   * @return what it speaks and its limits
   * @throws SidecallException it does not serve in time, or refuses this client
   * @throws InterruptedException the thread was interrupted
   */
  public GetCapabilitiesResponse waitUntilReady(Duration timeout) throws InterruptedException {
    Attempts attempts = new Attempts(0, timeout);
    while (true) {
      connection.awaitReady(attempts.remainingNanos());
      try {
        return invoke(
            attempts, stub -> stub.getCapabilities(GetCapabilitiesRequest.getDefaultInstance()));
      } catch (SidecallException error) {
        if (error.code() != Status.Code.UNAVAILABLE || attempts.remainingNanos() == 0) {
          throw error;
        }
      }
      TimeUnit.MILLISECONDS.sleep(READY_POLL.toMillis());
    }
  }

  /**
   * Returns what the sidecar speaks and its limits.
   *
   * @return the capabilities
   * @throws SidecallException the RPC failed
   * @throws InterruptedException the thread was interrupted
   */
  public GetCapabilitiesResponse getCapabilities() throws InterruptedException {
    return getCapabilities(null);
  }

  /**
   * Returns what the sidecar speaks and its limits.
   *
   * @param timeout time for the RPC; null for no bound
   * @return the capabilities
   * @throws SidecallException the RPC failed
   * @throws InterruptedException the thread was interrupted
   */
  public GetCapabilitiesResponse getCapabilities(@Nullable Duration timeout)
      throws InterruptedException {
    return invoke(
        new Attempts(retries, timeout).repeatable(true),
        stub -> stub.getCapabilities(GetCapabilitiesRequest.getDefaultInstance()));
  }

  /**
   * Returns all tools that the caller may use, ordered by name.
   *
   * @return the tools
   * @throws SidecallException the RPC failed
   * @throws InterruptedException the thread was interrupted
   */
  public List<Tool> listTools() throws InterruptedException {
    return listTools(null);
  }

  /**
   * Returns all tools that the caller may use, ordered by name.
   *
   * @param timeout time for each page; null for no bound
   * @return the tools
   * @throws SidecallException the RPC failed
   * @throws InterruptedException the thread was interrupted
   */
  public List<Tool> listTools(@Nullable Duration timeout) throws InterruptedException {
    for (int listing = 1; ; listing++) {
      try {
        return listPages(timeout);
      } catch (SidecallException error) {
        // The tools changed between two pages.
        if (error.code() != Status.Code.ABORTED || listing >= MAX_LISTINGS) {
          throw error;
        }
      }
    }
  }

  /**
   * Executes the calls of one turn; see {@link #executeBatch(Iterable, BatchOptions)}.
   *
   * @param calls the calls
   * @return one result per call, in call order
   * @throws SidecallException the RPC failed
   * @throws InterruptedException the thread was interrupted
   */
  public BatchResults executeBatch(Iterable<ToolCall> calls) throws InterruptedException {
    return executeBatch(calls, BatchOptions.defaults());
  }

  /**
   * Executes the calls of one turn and returns one result per call, in call order.
   *
   * <p>With a request id the batch is sent again also after a lost connection: the sidecar runs no
   * call a second time. One that was restarted meanwhile knows what has run only where its requests
   * are durable; else it refuses, with reason REQUEST_FORGOTTEN. Who sends it again by hand, after
   * an error that may have started calls, passes {@link SidecallException#sentToInstance} on.
   *
   * @param calls the calls; see {@link ToolCalls}
   * @param options what is said about the batch
   * @return the results
   * @throws SidecallException the RPC failed; {@link SidecallException#notStarted} says whether
   *     that is harmless
   * @throws InterruptedException the thread was interrupted
   */
  public BatchResults executeBatch(Iterable<ToolCall> calls, BatchOptions options)
      throws InterruptedException {
    ExecuteBatchRequest.Builder request = options.toRequest().addAllCalls(calls);
    String earlier = request.getSentToInstance();
    Attempts attempts =
        new Attempts(retries, options.timeout().orElse(null)).mayHaveStarted(!earlier.isEmpty());
    String instance = earlier;
    if (!request.getRequestId().isEmpty()) {
      instance = earlier.isEmpty() ? findInstance(attempts.forReading(retries)) : earlier;
      attempts.repeatable(!instance.isEmpty());
    }
    String sentTo = instance;
    ExecuteBatchResponse response =
        invoke(
            attempts,
            stub -> {
              if (attempts.mayHaveStarted()) {
                request.setSentToInstance(sentTo);
              }
              return stub.executeBatch(request.build());
            },
            sentTo);
    int sent = request.getCallsCount();
    if (response.getResultsCount() != sent) {
      throw new SidecallException(
          sent + " calls were sent but " + response.getResultsCount() + " results came back",
          Status.Code.INTERNAL);
    }
    return new BatchResults(
        response.getResultsList(), response.getRequestId(), response.getSchedule());
  }

  /**
   * Executes one call.
   *
   * @param name name of the tool
   * @param arguments text of a JSON object; see {@link ToolCalls#arguments}
   * @return its result
   * @throws SidecallException the RPC failed
   * @throws InterruptedException the thread was interrupted
   */
  public ToolResult call(String name, String arguments) throws InterruptedException {
    return call(name, arguments, BatchOptions.defaults());
  }

  /**
   * Executes one call. Where a human may have to approve it, give a request id to send it again
   * with.
   *
   * @param name name of the tool
   * @param arguments text of a JSON object; see {@link ToolCalls#arguments}
   * @param options what is said about the batch of one
   * @return its result
   * @throws SidecallException the RPC failed
   * @throws InterruptedException the thread was interrupted
   */
  public ToolResult call(String name, String arguments, BatchOptions options)
      throws InterruptedException {
    return executeBatch(List.of(ToolCalls.of(name, arguments)), options).get(0);
  }

  /**
   * Opens a turn whose calls are sent one by one; see {@link #streamBatch(BatchOptions)}.
   *
   * @return the turn, which the sidecar has accepted
   * @throws SidecallException the sidecar does not accept it
   * @throws InterruptedException the thread was interrupted
   */
  public BatchStream streamBatch() throws InterruptedException {
    return streamBatch(BatchOptions.defaults());
  }

  /**
   * Opens a turn whose calls are sent one by one.
   *
   * @param options what is said about the turn; its timeout begins now
   * @return the turn, which the sidecar has accepted
   * @throws SidecallException the sidecar does not accept it
   * @throws InterruptedException the thread was interrupted
   */
  public BatchStream streamBatch(BatchOptions options) throws InterruptedException {
    Attempts attempts = new Attempts(0, options.timeout().orElse(null));
    String sentTo = options.sentToInstance();
    if (sentTo.isEmpty() && !options.requestId().isEmpty()) {
      sentTo = findInstance(attempts.forReading(0));
    }
    checkOpen();
    connection.redial(attempts.remainingNanos());
    ToolServiceGrpc.ToolServiceStub stub = ToolServiceGrpc.newStub(connection.channel());
    if (attempts.hasDeadline()) {
      stub = stub.withDeadlineAfter(attempts.remainingNanos(), TimeUnit.NANOSECONDS);
    }
    return BatchStream.open(stub, options.toStart().build(), sentTo);
  }

  private List<Tool> listPages(@Nullable Duration timeout) throws InterruptedException {
    List<Tool> tools = new ArrayList<>();
    ListToolsRequest request = ListToolsRequest.getDefaultInstance();
    while (true) {
      ListToolsRequest next = request;
      ListToolsResponse page =
          invoke(new Attempts(retries, timeout).repeatable(true), stub -> stub.listTools(next));
      tools.addAll(page.getToolsList());
      if (page.getNextPageToken().isEmpty()) {
        return tools;
      }
      request = ListToolsRequest.newBuilder().setPageToken(page.getNextPageToken()).build();
    }
  }

  /** The sidecar's instance_id, to be read before a first send; empty where unknown. */
  private String findInstance(Attempts attempts) throws InterruptedException {
    if (instanceId.isEmpty()) {
      try {
        instanceId =
            invoke(
                    attempts,
                    stub -> stub.getCapabilities(GetCapabilitiesRequest.getDefaultInstance()))
                .getInstanceId();
      } catch (SidecallException error) {
        if (NO_ANSWER.contains(error.code())) {
          // The batch comes after it.
          throw error.withNotStarted(true);
        }
        return "";
      }
    }
    return instanceId;
  }

  private <T> T invoke(Attempts attempts, Function<ToolServiceBlockingStub, T> rpc)
      throws InterruptedException {
    return invoke(attempts, rpc, "");
  }

  private <T> T invoke(
      Attempts attempts, Function<ToolServiceBlockingStub, T> rpc, String sentToInstance)
      throws InterruptedException {
    while (true) {
      long delayNanos;
      try {
        return attempt(attempts, rpc);
      } catch (SidecallException error) {
        if (error.code() == Status.Code.UNAVAILABLE || error.reason().equals("REQUEST_FORGOTTEN")) {
          // The sidecar may have been restarted since its instance was asked for.
          instanceId = "";
        }
        SidecallException settled = attempts.settle(error);
        delayNanos = attempts.delayNanos(settled);
        if (delayNanos < 0) {
          throw settled.notStarted() ? settled : settled.withSentToInstance(sentToInstance);
        }
      }
      TimeUnit.NANOSECONDS.sleep(delayNanos);
    }
  }

  private <T> T attempt(Attempts attempts, Function<ToolServiceBlockingStub, T> rpc)
      throws InterruptedException {
    if (Thread.interrupted()) {
      throw new InterruptedException("interrupted before an RPC");
    }
    checkOpen();
    connection.redial(attempts.remainingNanos());
    ToolServiceBlockingStub stub = ToolServiceGrpc.newBlockingStub(connection.channel());
    if (attempts.hasDeadline()) {
      stub = stub.withDeadlineAfter(attempts.remainingNanos(), TimeUnit.NANOSECONDS);
    }
    try {
      return rpc.apply(stub);
    } catch (StatusRuntimeException error) {
      if (Thread.interrupted()) {
        InterruptedException interrupted = new InterruptedException("interrupted in an RPC");
        interrupted.initCause(error);
        throw interrupted;
      }
      if (closed) {
        throw new SidecallException("the client was closed", Status.Code.CANCELLED);
      }
      throw RpcErrors.of(error);
    }
  }

  private void checkOpen() {
    if (closed) {
      throw new IllegalStateException("the client is closed: make a new one");
    }
  }
}
