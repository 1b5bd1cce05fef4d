package dev.sidecall.chat;

import dev.sidecall.BatchOptions;
import dev.sidecall.BatchStream;
import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallException;
import dev.sidecall.v1.BatchEvent;
import dev.sidecall.v1.ExecutionState;
import dev.sidecall.v1.ToolCall;
import dev.sidecall.v1.ToolResult;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.OptionalDouble;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/**
 * Calls of one turn that are sent over StreamBatch before the turn is over.
 *
 * <p>One thread sends them and completes the turn; another one, which this owns, reads what happens
 * to them.
 */
final class EarlyCalls implements AutoCloseable {
  /** Time in which a sidecar that serves gives the results of calls that are cancelled. */
  private static final Duration ANSWER = Duration.ofSeconds(5);

  private final int turn;
  private final SidecallClient client;
  private final BatchOptions options;
  private final Emitter emitter;
  private final @Nullable Duration timeout;
  private final boolean holdUnstarted;
  private final List<ToolCall> sent = new ArrayList<>();
  private @Nullable BatchStream stream;
  private @Nullable Worker reader;
  // Guarded by this: they belong to both threads.
  private final Set<Integer> told = new HashSet<>();
  private final SortedMap<Integer, ToolResult> results = new TreeMap<>();
  private @Nullable TurnCalls calls;
  private @Nullable TurnRecord record;
  private boolean givenUp;
  private boolean sealed;
  private boolean closed;
  private String requestId = "";
  private String sentToInstance = "";

  /**
   * Prepares the early start of a turn.
   *
   * @param turn number of the model turn
   * @param client opens StreamBatch
   * @param options what is said about the turn, without a timeout: the RPC is open while the model
   *     is still writing
   * @param emitter is told what happens to the calls
   * @param timeout time for the calls from the seal; then what has not ended is cancelled, which
   *     gives it a result, or else ends the turn; null for no bound
   * @param holdUnstarted whether results of calls that were not started are not reported: a human's
   *     decision may start them later
   */
  EarlyCalls(
      int turn,
      SidecallClient client,
      BatchOptions options,
      Emitter emitter,
      @Nullable Duration timeout,
      boolean holdUnstarted) {
    this.turn = turn;
    this.client = client;
    this.options = options;
    this.emitter = emitter;
    this.timeout = timeout;
    this.holdUnstarted = holdUnstarted;
  }

  /** Indexes of the calls whose results were reported. */
  synchronized Set<Integer> told() {
    return new HashSet<>(told);
  }

  /** Key under which the calls may be sent again once they were released; may be empty. */
  synchronized String requestId() {
    return requestId;
  }

  /** Where they were sent; empty where they must not be sent again. */
  synchronized String sentToInstance() {
    return sentToInstance;
  }

  /** Ends what is not over. Nothing changes any more once it returns. */
  @Override
  public void close() {
    synchronized (this) {
      closed = true;
    }
    if (stream != null) {
      stream.close();
    }
    if (reader != null) {
      reader.stop();
    }
  }

  /** Sends the calls that the model has finished and that were not sent yet. */
  void send(TurnCalls finished) throws InterruptedException {
    List<ToolCall> batch = finished.batch();
    if (isGivenUp() || sent.size() >= batch.size()) {
      return;
    }
    synchronized (this) {
      calls = finished;
    }
    try {
      BatchStream open = stream == null ? open() : stream;
      while (sent.size() < batch.size() && !isGivenUp()) {
        ToolCall call = batch.get(sent.size());
        sent.add(call);
        open.send(sent.size() - 1, call);
      }
    } catch (SidecallException error) {
      abandon(String.valueOf(error.getMessage()));
    } catch (IllegalStateException error) {
      // It may have been given up since it was looked at.
      if (!isGivenUp()) {
        throw error;
      }
    }
  }

  /** Gives up what was sent; only tools that are read_only can have run. */
  void abandon(String reason) {
    synchronized (this) {
      if (givenUp || sealed || closed) {
        return;
      }
      givenUp = true;
    }
    if (stream != null) {
      stream.abandon();
    }
    emitter.emit(new ChatEvent.EarlyStartAbandoned(turn, reason));
  }

  /**
   * Runs the turn to its end once all of its calls are known.
   *
   * @return whether every call has its result in the record; if not, nothing has taken effect, and
   *     the calls are to be sent as one batch
   * @throws SidecallException the turn failed after the calls were released; without a request id
   *     they are never sent again, whatever the sidecar says
   */
  boolean complete(TurnCalls known, TurnRecord into) throws InterruptedException {
    int common = Math.min(sent.size(), known.batch().size());
    if (!sent.equals(known.batch().subList(0, common))) {
      abandon("the model changed a call that had been sent");
    }
    send(known);
    if (reader != null && reader.isDone()) {
      reader.await(Duration.ZERO);
    }
    BatchStream open = stream;
    Worker reading = reader;
    synchronized (this) {
      if (givenUp || open == null || reading == null) {
        return false;
      }
      record = into;
      sealed = true;
      requestId = open.requestId();
      sentToInstance = open.sentToInstance();
      results.forEach(into::addResult);
    }
    open.seal();
    awaitReader(open, reading);
    open.results();
    synchronized (this) {
      requestId = open.requestId();
    }
    return true;
  }

  private BatchStream open() throws InterruptedException {
    BatchStream opened = client.streamBatch(options);
    stream = opened;
    reader = Worker.start("sidecall-early-start", () -> read(opened));
    return opened;
  }

  private void awaitReader(BatchStream open, Worker reading) throws InterruptedException {
    if (reading.await(timeout)) {
      return;
    }
    int count = sent.size();
    Worker canceller =
        Worker.start(
            "sidecall-cancel",
            () -> {
              for (int index = 0; index < count; index++) {
                open.cancel(index);
              }
            });
    try {
      while (!reading.await(ANSWER)) {
        // While a hook is told of an event, nobody hears of the next one.
        if (!emitter.isTelling()) {
          throw new SidecallException(
              "the sidecar did not answer when the time of its calls was over",
              Status.Code.DEADLINE_EXCEEDED);
        }
      }
    } finally {
      canceller.stop();
    }
  }

  private void read(BatchStream open) throws InterruptedException {
    String why = "the sidecar ended the turn before its seal";
    try {
      for (BatchEvent event = open.next(); event != null; event = open.next()) {
        ChatEvent translated = take(event);
        if (translated != null) {
          emitter.emit(translated);
          if (translated instanceof ChatEvent.CallFinished finished) {
            synchronized (this) {
              told.add(finished.index());
            }
          }
        }
      }
    } catch (SidecallException error) {
      synchronized (this) {
        if (sealed) {
          throw error;
        }
      }
      why = String.valueOf(error.getMessage());
    }
    abandon(why);
  }

  /** Keeps a result, and returns what the hook is told of an event. */
  private synchronized @Nullable ChatEvent take(BatchEvent event) {
    ChatEvent translated = translate(event);
    if (translated instanceof ChatEvent.CallFinished finished) {
      int index = finished.index();
      ToolResult result =
          calls == null ? finished.result() : calls.settle(index, finished.result());
      results.put(index, result);
      if (record != null && !closed) {
        record.addResult(index, result);
      }
      boolean held =
          holdUnstarted && result.getExecutionState() == ExecutionState.EXECUTION_STATE_NOT_STARTED;
      translated = held ? null : new ChatEvent.CallFinished(turn, index, result);
    }
    return givenUp || closed ? null : translated;
  }

  private @Nullable ChatEvent translate(BatchEvent event) {
    return switch (event.getEventCase()) {
      case QUEUED ->
          new ChatEvent.CallQueued(
              turn,
              event.getQueued().getIndex(),
              event.getQueued().getCause(),
              event.getQueued().getWaitingForList());
      case STARTED ->
          new ChatEvent.CallStarted(
              turn, event.getStarted().getIndex(), event.getStarted().getAttempt());
      case PROGRESS ->
          new ChatEvent.CallProgress(
              turn,
              event.getProgress().getIndex(),
              event.getProgress().getProgress(),
              event.getProgress().hasTotal()
                  ? OptionalDouble.of(event.getProgress().getTotal())
                  : OptionalDouble.empty(),
              event.getProgress().getMessage());
      case PARTIAL_OUTPUT ->
          new ChatEvent.CallPartialOutput(
              turn, event.getPartialOutput().getIndex(), event.getPartialOutput().getText());
      case RESULT ->
          new ChatEvent.CallFinished(
              turn, event.getResult().getIndex(), event.getResult().getResult());
      case ACCEPTED, SUMMARY, EVENT_NOT_SET -> null;
    };
  }

  private synchronized boolean isGivenUp() {
    return givenUp;
  }
}
