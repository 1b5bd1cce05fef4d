package dev.sidecall.chat;

import dev.sidecall.v1.Approval;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.function.Function;

/**
 * Asks a human about one call.
 *
 * <p>All calls of a turn that wait are asked about before the first answer is waited for. What the
 * hook fails with leaves its own call undecided, so that it does not run. Decisions on other calls
 * take effect all the same; then the error ends the chat. An interrupt of the chat cancels the
 * stages that are not complete.
 */
@FunctionalInterface
public interface ApprovalHook {
  /**
   * Asks.
   *
   * @param request the call
   * @return what {@link dev.sidecall.Approvals} makes of the answer; empty leaves the question open
   */
  CompletionStage<Optional<Approval>> decide(ChatEvent.ApprovalRequested request);

  /**
   * Makes a hook of a function that waits for the answer: calls are asked about one by one.
   *
   * @param ask asks, and returns the decision; empty leaves the question open
   * @return the hook
   */
  static ApprovalHook blocking(Function<ChatEvent.ApprovalRequested, Optional<Approval>> ask) {
    return request -> CompletableFuture.completedFuture(ask.apply(request));
  }
}
