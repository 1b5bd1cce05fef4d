package dev.sidecall.chat;

import dev.sidecall.v1.Approval;
import dev.sidecall.v1.ToolResult;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;
import org.jspecify.annotations.Nullable;

/** The questions about some calls of a turn, all asked before the first answer is waited for. */
final class Questions {
  private final ApprovalHook hook;
  private final Emitter emitter;
  private final List<ChatEvent.ApprovalRequested> requests = new ArrayList<>();
  private final SortedMap<Integer, Approval> approvals = new TreeMap<>();
  private final List<RuntimeException> errors = new ArrayList<>();

  private record Answer(
      ChatEvent.ApprovalRequested request,
      Optional<Approval> decision,
      @Nullable Throwable error) {}

  /**
   * Prepares questions.
   *
   * @param hook asks
   * @param turn number of the model turn
   * @param pending results of the calls that wait, by index
   * @param emitter is told of questions and decisions
   */
  Questions(ApprovalHook hook, int turn, SortedMap<Integer, ToolResult> pending, Emitter emitter) {
    this.hook = hook;
    this.emitter = emitter;
    for (Map.Entry<Integer, ToolResult> each : pending.entrySet()) {
      ToolResult result = each.getValue();
      requests.add(
          new ChatEvent.ApprovalRequested(
              turn,
              each.getKey(),
              result.getCallId(),
              result.getName(),
              result.getApprovalArguments(),
              result.getApprovalId()));
    }
  }

  /** The decisions so far, by index of the call. */
  SortedMap<Integer, Approval> approvals() {
    return approvals;
  }

  /** What the hook, or who watches, raised. */
  List<RuntimeException> errors() {
    return errors;
  }

  /** Asks all of them and waits for the answers. */
  @SuppressWarnings("FutureReturnValueIgnored") // What a stage ends with is put into the queue.
  void ask() throws InterruptedException {
    requests.forEach(emitter::emit);
    BlockingQueue<Answer> answers = new LinkedBlockingQueue<>();
    List<CompletableFuture<Optional<Approval>>> waiting = new ArrayList<>();
    for (ChatEvent.ApprovalRequested request : requests) {
      try {
        CompletableFuture<Optional<Approval>> answer = hook.decide(request).toCompletableFuture();
        waiting.add(answer);
        answer.whenComplete(
            (decision, error) ->
                answers.add(
                    new Answer(request, error == null ? decision : Optional.empty(), error)));
      } catch (RuntimeException error) {
        errors.add(error);
      }
    }
    try {
      for (int left = waiting.size(); left > 0; left--) {
        take(answers.take());
      }
    } finally {
      waiting.forEach(answer -> answer.cancel(true));
    }
  }

  private void take(Answer answer) {
    Throwable error = answer.error();
    if (error instanceof CompletionException && error.getCause() != null) {
      error = error.getCause();
    }
    if (error != null) {
      errors.add(
          error instanceof RuntimeException unchecked
              ? unchecked
              : new ApprovalHookException(error));
      return;
    }
    ChatEvent.ApprovalRequested request = answer.request();
    Optional<Approval> decision = answer.decision();
    try {
      if (decision.isPresent()) {
        if (!decision.get().getApprovalId().equals(request.approvalId())) {
          throw new IllegalArgumentException(
              "an approval hook decides on the call that it was asked about");
        }
        approvals.put(request.index(), decision.get());
      }
      emitter.emit(new ChatEvent.ApprovalDecided(request.turn(), request.index(), decision));
    } catch (RuntimeException failure) {
      errors.add(failure);
    }
  }
}
