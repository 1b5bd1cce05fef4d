package dev.sidecall.chat;

import dev.sidecall.Approvals;
import dev.sidecall.BatchOptions;
import dev.sidecall.BatchResults;
import dev.sidecall.Results;
import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallException;
import dev.sidecall.v1.Approval;
import dev.sidecall.v1.ExecutionState;
import dev.sidecall.v1.ToolResult;
import java.time.Duration;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/** Runs the calls of one turn, once or again, and fills the turn's record with their results. */
final class TurnExecution {
  private static final ExecutionState NOT_STARTED = ExecutionState.EXECUTION_STATE_NOT_STARTED;

  private final int turn;
  private final TurnCalls calls;
  private final TurnRecord record;
  private final ChatOptions options;
  private final SidecallClient client;
  private final Emitter emitter;
  private final Set<Integer> told = new HashSet<>();
  private String requestId = "";

  TurnExecution(
      int turn,
      TurnCalls calls,
      TurnRecord record,
      ChatOptions options,
      SidecallClient client,
      Emitter emitter) {
    this.turn = turn;
    this.calls = calls;
    this.record = record;
    this.options = options;
    this.client = client;
    this.emitter = emitter;
  }

  /** Makes a request id. */
  static String newRequestId() {
    return UUID.randomUUID().toString();
  }

  /**
   * Runs the calls to their ends.
   *
   * @param early their early start; null where there was none
   */
  void run(@Nullable EarlyCalls early) throws InterruptedException {
    if (early == null || !complete(early)) {
      send(batch(options.resend() ? newRequestId() : ""));
    }
    List<RuntimeException> errors = decide();
    tell(record.results().keySet());
    if (errors.size() == 1) {
      throw errors.get(0);
    }
    if (!errors.isEmpty()) {
      throw new ApprovalHookException("the approval hook failed for several calls", errors);
    }
  }

  /** Ends an early start; returns whether all calls have their results. */
  private boolean complete(EarlyCalls early) throws InterruptedException {
    long begunNanos = System.nanoTime();
    try {
      if (!early.complete(calls, record)) {
        return false;
      }
    } catch (SidecallException error) {
      // Nothing of an unsealed turn has taken effect: it is sent as a new batch. This one may
      // have, so it is sent again only where the sidecar can tell.
      if (early.sentToInstance().isEmpty() || !error.isTransient()) {
        throw error;
      }
      BatchOptions.Builder again = batch(early.requestId()).sentToInstance(early.sentToInstance());
      Duration timeout = options.batchTimeout();
      if (timeout != null) {
        Duration left = timeout.minusNanos(System.nanoTime() - begunNanos);
        if (left.isNegative() || left.isZero()) {
          throw error;
        }
        again.timeout(left);
      }
      told.addAll(early.told());
      send(again);
      return true;
    }
    told.addAll(early.told());
    requestId = early.requestId();
    return true;
  }

  private BatchOptions.Builder batch(String id) {
    BatchOptions.Builder batch = options.batch().toBuilder();
    if (!id.isEmpty()) {
      batch.requestId(id);
    }
    if (options.batchTimeout() != null) {
      batch.timeout(options.batchTimeout());
    }
    return batch;
  }

  private void send(BatchOptions.Builder batch) throws InterruptedException {
    BatchResults answered = client.executeBatch(calls.batch(), batch.build());
    requestId = answered.requestId();
    SortedMap<Integer, ToolResult> known = record.results();
    for (int index = 0; index < answered.results().size(); index++) {
      ToolResult result = answered.get(index);
      ToolResult before = known.get(index);
      if (before != null && before.getExecutionState() != NOT_STARTED) {
        if (Results.reasonOf(result).equals("OUTCOME_UNKNOWN")) {
          continue; // The first send said more about it.
        }
        if (before.getExecutionState() != result.getExecutionState()) {
          told.remove(index);
        }
      }
      record.addResult(index, calls.settle(index, result));
    }
  }

  /** Has humans decide for as long as calls wait for them; returns what the hook raised. */
  private List<RuntimeException> decide() throws InterruptedException {
    ApprovalHook hook = options.approvalHook();
    Set<String> asked = new HashSet<>();
    // Each round decides on a call for good, so there are no more rounds than calls.
    for (int round = 0; hook != null && round < calls.batch().size(); round++) {
      SortedMap<Integer, ToolResult> pending = new TreeMap<>();
      record
          .results()
          .forEach(
              (index, result) -> {
                if (isPending(result) && asked.add(result.getApprovalId())) {
                  pending.put(index, result);
                }
              });
      if (pending.isEmpty() || requestId.isEmpty()) {
        break;
      }
      tell(started());
      Questions questions = new Questions(hook, turn, pending, emitter);
      questions.ask();
      if (!questions.approvals().isEmpty()) {
        sendDecisions(questions.approvals());
      }
      if (!questions.errors().isEmpty() || questions.approvals().isEmpty()) {
        return questions.errors();
      }
    }
    return List.of();
  }

  private void sendDecisions(SortedMap<Integer, Approval> approvals) throws InterruptedException {
    SortedMap<Integer, ToolResult> before = record.results();
    Set<Integer> released = new TreeSet<>();
    before.forEach(
        (index, result) -> {
          if (result.getExecutionState() == NOT_STARTED
              && (approvals.containsKey(index) || !isPending(result))) {
            released.add(index);
          }
        });
    record.reopen(released);
    try {
      send(batch(requestId).approvals(approvals.values()));
    } catch (SidecallException error) {
      if (!error.reason().equals("APPROVAL_UNKNOWN") || !error.notStarted()) {
        throw error;
      }
      for (Map.Entry<Integer, ToolResult> each : before.entrySet()) {
        int index = each.getKey();
        if (released.contains(index)) {
          boolean lost = approvals.containsKey(index);
          record.addResult(index, lost ? lost(each.getValue()) : each.getValue());
        }
      }
    }
  }

  /** Calls whose results will not change any more. */
  private Collection<Integer> started() {
    Set<Integer> started = new TreeSet<>();
    record
        .results()
        .forEach(
            (index, result) -> {
              if (result.getExecutionState() != NOT_STARTED) {
                started.add(index);
              }
            });
    return started;
  }

  private void tell(Collection<Integer> indexes) {
    SortedMap<Integer, ToolResult> results = record.results();
    for (int index : new TreeSet<>(indexes)) {
      ToolResult result = results.get(index);
      if (result != null && told.add(index)) {
        emitter.emit(new ChatEvent.CallFinished(turn, index, result));
      }
    }
  }

  private static boolean isPending(ToolResult result) {
    return !Approvals.pending(List.of(result)).isEmpty();
  }

  /** The result of a call that was decided on too late. */
  private static ToolResult lost(ToolResult pending) {
    ToolResult.Builder result =
        pending.toBuilder()
            .clearApprovalId()
            .clearApprovalArguments()
            .setContent(AnswerTexts.APPROVAL_LOST);
    result.getStatusBuilder().setMessage(AnswerTexts.APPROVAL_LOST);
    return result.build();
  }
}
