package dev.sidecall;

import dev.sidecall.internal.Duplex;
import dev.sidecall.v1.BatchEvent;
import dev.sidecall.v1.BatchSummary;
import dev.sidecall.v1.StreamBatchRequest;
import dev.sidecall.v1.StreamBatchResponse;
import dev.sidecall.v1.StreamCall;
import dev.sidecall.v1.StreamCancel;
import dev.sidecall.v1.StreamSeal;
import dev.sidecall.v1.StreamStart;
import dev.sidecall.v1.ToolCall;
import dev.sidecall.v1.ToolResult;
import dev.sidecall.v1.ToolServiceGrpc.ToolServiceStub;
import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.HashSet;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.SortedMap;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/**
 * One turn whose calls are sent while the model is still producing them.
 *
 * <p>Calls may be sent from several threads. Events have one consumer: either {@link #next}, or
 * {@link #results}, or first one and then the other. An interrupt ends the wait and leaves the turn
 * as it is; closing it before it is over cancels it.
 */
public final class BatchStream implements AutoCloseable {
  private static final String OVER = "the turn is already over";

  private final Duplex<StreamBatchRequest, StreamBatchResponse> rpc = new Duplex<>();
  private final StreamStart start;
  private final String sentToInstance;
  private final Queue<BatchEvent> pending = new ArrayDeque<>();
  // Guarded by this, for they belong to those who send and to the one who reads.
  private final Set<Integer> sent = new HashSet<>();
  private final SortedMap<Integer, ToolResult> results = new TreeMap<>();
  private @Nullable BatchSummary summary;
  private boolean sealed;
  private boolean halfClosed;
  private boolean over;

  private BatchStream(StreamStart start, String sentToInstance) {
    this.start = start;
    this.sentToInstance = sentToInstance;
  }

  /** Opens a turn and waits until the sidecar has accepted it. */
  static BatchStream open(ToolServiceStub stub, StreamStart start, String sentToInstance)
      throws InterruptedException {
    BatchStream stream = new BatchStream(start, sentToInstance);
    boolean accepted = false;
    try {
      stub.streamBatch(stream.rpc);
      stream.rpc.write(StreamBatchRequest.newBuilder().setStart(start).build());
      // Nothing is sent before that: a message that gRPC cannot send any more hides the reason
      // of a refusal.
      StreamBatchResponse first = stream.rpc.read();
      if (first != null) {
        stream.pending.addAll(first.getEventsList());
      }
      accepted = true;
      return stream;
    } catch (Duplex.EndedException ended) {
      // No call was sent now, whatever the reason.
      throw stream
          .whyOver(ended)
          .withNotStarted(start.getSentToInstance().isEmpty())
          .withSentToInstance(start.getSentToInstance());
    } finally {
      if (!accepted) {
        stream.close();
      }
    }
  }

  /**
   * Key under which the turn's calls may be sent again, by {@link SidecallClient#executeBatch}.
   * Once the turn is over it may be one that the sidecar made because a call waits for approval.
   *
   * @return the key; empty where there is none
   */
  public synchronized String requestId() {
    return summary == null ? start.getRequestId() : summary.getRequestId();
  }

  /**
   * Where the turn was first sent, for {@link SidecallClient#executeBatch} under the same request
   * id.
   *
   * @return the instance; empty where that is not known, or the turn has no request id of its own:
   *     then a lost turn must not be sent again
   */
  public String sentToInstance() {
    return sentToInstance;
  }

  /**
   * The turn's summary.
   *
   * @return the summary; empty before the turn is over
   */
  public synchronized Optional<BatchSummary> summary() {
    return Optional.ofNullable(summary);
  }

  /**
   * Sends a call that the model has finished.
   *
   * @param index its position in the turn, counted from 0
   * @param call the call
   * @throws SidecallException the RPC failed
   * @throws IllegalStateException the index was sent before, or the turn is sealed or abandoned
   * @throws InterruptedException the thread was interrupted
   */
  public void send(int index, ToolCall call) throws InterruptedException {
    synchronized (this) {
      if (sealed || halfClosed || !sent.add(index)) {
        throw new IllegalStateException(
            "call " + index + " cannot be sent: it was, or the turn has ended");
      }
    }
    write(
        StreamBatchRequest.newBuilder()
            .setCall(StreamCall.newBuilder().setIndex(index).setCall(call))
            .build());
  }

  /**
   * Ends the turn: calls that are held may start.
   *
   * @throws SidecallException the RPC failed
   * @throws IllegalStateException the turn is sealed or abandoned
   * @throws InterruptedException the thread was interrupted
   */
  public void seal() throws InterruptedException {
    int count;
    synchronized (this) {
      if (sealed) {
        throw new IllegalStateException("the turn is already sealed");
      }
      checkNotAbandoned();
      sealed = true;
      count = sent.size();
    }
    write(
        StreamBatchRequest.newBuilder()
            .setSeal(StreamSeal.newBuilder().setCallCount(count))
            .build());
  }

  /**
   * Cancels one call. One that is already final is left as it is.
   *
   * @param index its position
   * @throws SidecallException the RPC failed
   * @throws IllegalStateException the turn is abandoned
   * @throws InterruptedException the thread was interrupted
   */
  public void cancel(int index) throws InterruptedException {
    synchronized (this) {
      if (summary != null || over || results.containsKey(index)) {
        return;
      }
      checkNotAbandoned();
    }
    write(
        StreamBatchRequest.newBuilder()
            .setCancel(StreamCancel.newBuilder().setIndex(index))
            .build());
  }

  /** Gives the unsealed turn up: calls that are held are never started. */
  public void abandon() {
    synchronized (this) {
      if (halfClosed || over) {
        return;
      }
      halfClosed = true;
    }
    rpc.halfClose();
  }

  /**
   * Waits for the next event.
   *
   * @return the event; null once the turn is over
   * @throws SidecallException the RPC failed
   * @throws InterruptedException the thread was interrupted
   */
  public @Nullable BatchEvent next() throws InterruptedException {
    BatchEvent event;
    while ((event = pending.poll()) == null) {
      StreamBatchResponse response = read();
      if (response == null) {
        return null;
      }
      pending.addAll(response.getEventsList());
    }
    boolean ends = false;
    synchronized (this) {
      if (event.hasResult()) {
        results.put(event.getResult().getIndex(), event.getResult().getResult());
      } else if (event.hasSummary()) {
        summary = event.getSummary();
        ends = !halfClosed;
        halfClosed = true;
      }
    }
    if (ends) {
      // The sidecar waits for it, so that what is sent until now does not cross the end of the
      // RPC: gRPC would fail the RPC then, and drop what was not read.
      rpc.halfClose();
    }
    return event;
  }

  /**
   * Waits for the turn to end and returns its results, ordered by index.
   *
   * @return the results
   * @throws SidecallException the RPC failed, or a call that was sent has no result
   * @throws InterruptedException the thread was interrupted
   */
  public BatchResults results() throws InterruptedException {
    while (next() != null) {
      // Each event is kept as it is read.
    }
    synchronized (this) {
      SortedSet<Integer> missing = new TreeSet<>(sent);
      missing.removeAll(results.keySet());
      if (!missing.isEmpty()) {
        throw new SidecallException(
            "the turn ended without results of the calls " + missing, Status.Code.INTERNAL);
      }
      BatchSummary last = summary == null ? BatchSummary.getDefaultInstance() : summary;
      return new BatchResults(results.values().stream().toList(), requestId(), last.getSchedule());
    }
  }

  /** Cancels the turn where it is not over. */
  @Override
  public void close() {
    synchronized (this) {
      over = true;
    }
    rpc.cancel("the turn was closed");
  }

  private void write(StreamBatchRequest message) throws InterruptedException {
    synchronized (this) {
      if (summary != null) {
        throw new SidecallException(OVER, Status.Code.FAILED_PRECONDITION);
      }
    }
    try {
      rpc.write(message);
    } catch (Duplex.EndedException ended) {
      // Calls of an accepted turn may have run, whatever the reason.
      throw whyOver(ended).withNotStarted(false).withSentToInstance(sentToInstance);
    }
  }

  private @Nullable StreamBatchResponse read() throws InterruptedException {
    synchronized (this) {
      if (over) {
        return null;
      }
    }
    Duplex.EndedException why = null;
    StreamBatchResponse response = null;
    try {
      response = rpc.read();
    } catch (Duplex.EndedException ended) {
      why = ended;
    }
    synchronized (this) {
      // What is lost after the summary, or after it was closed, is nobody's.
      boolean settled = over || summary != null;
      over = over || response == null;
      if (why != null && !settled) {
        throw whyOver(why).withNotStarted(false).withSentToInstance(sentToInstance);
      }
    }
    return response;
  }

  private synchronized void checkNotAbandoned() {
    // gRPC would refuse the message, and say why only once all events have been read.
    if (halfClosed) {
      throw new IllegalStateException("the turn is abandoned: nothing can be sent any more");
    }
  }

  private SidecallException whyOver(Duplex.EndedException ended) {
    return ended.status().isOk()
        ? new SidecallException(OVER, Status.Code.FAILED_PRECONDITION)
        : RpcErrors.of(ended.status(), ended.trailers());
  }
}
