package dev.sidecall.chat;

import dev.sidecall.v1.Approval;
import dev.sidecall.v1.BlockCause;
import dev.sidecall.v1.ToolCall;
import dev.sidecall.v1.ToolResult;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;

/** Something that happened in a chat. */
public sealed interface ChatEvent {
  /**
   * Number of the model turn, counted from 1; 0 before the first.
   *
   * @return the number
   */
  int turn();

  /** Something that happened to a tool call. */
  sealed interface CallEvent extends ChatEvent {
    /**
     * Position of the call among those of its turn, counted from 0.
     *
     * @return the position
     */
    int index();
  }

  /**
   * The model is about to be asked.
   *
   * @param turn number of the model turn
   */
  record TurnStarted(int turn) implements ChatEvent {}

  /**
   * The model wrote text; without streaming, all of it at once.
   *
   * @param turn number of the model turn
   * @param text what it wrote
   */
  record TextDelta(int turn, String text) implements ChatEvent {}

  /**
   * The model wrote a part of a refusal.
   *
   * @param turn number of the model turn
   * @param text what it wrote
   */
  record RefusalDelta(int turn, String text) implements ChatEvent {}

  /**
   * The model has finished a call.
   *
   * @param turn number of the model turn
   * @param index position of the call
   * @param call the call as the sidecar is given it; one that the chat refuses to run has no name
   */
  record CallReady(int turn, int index, ToolCall call) implements CallEvent {}

  /**
   * A call waits. Reported with early start only.
   *
   * @param turn number of the model turn
   * @param index position of the call
   * @param cause what it waits for
   * @param waitingFor positions of the calls that it depends on and that are not final
   */
  record CallQueued(int turn, int index, BlockCause cause, List<Integer> waitingFor)
      implements CallEvent {}

  /**
   * An attempt of a call was started. Reported with early start only.
   *
   * @param turn number of the model turn
   * @param index position of the call
   * @param attempt number of the attempt, counted from 1
   */
  record CallStarted(int turn, int index, int attempt) implements CallEvent {}

  /**
   * A running tool reported progress. Reported with early start only.
   *
   * @param turn number of the model turn
   * @param index position of the call
   * @param progress work done so far, in the tool's own unit
   * @param total all of the work in the same unit; empty where the tool does not know it
   * @param message what the tool is doing
   */
  record CallProgress(int turn, int index, double progress, OptionalDouble total, String message)
      implements CallEvent {}

  /**
   * A running tool produced part of its output. Reported with early start only.
   *
   * @param turn number of the model turn
   * @param index position of the call
   * @param text the part
   */
  record CallPartialOutput(int turn, int index, String text) implements CallEvent {}

  /**
   * A call has its result.
   *
   * <p>Where the chat has an approval hook, calls that were not started are reported after the
   * decisions, which may start them. A call whose end was unknown is reported again where the turn
   * was sent again and told it.
   *
   * @param turn number of the model turn
   * @param index position of the call
   * @param result the result
   */
  record CallFinished(int turn, int index, ToolResult result) implements CallEvent {}

  /**
   * A call waits for a human, and the chat's approval hook is asked next.
   *
   * @param turn number of the model turn
   * @param index position of the call
   * @param callId id of the call
   * @param toolName name of the tool, as the sidecar knows it
   * @param arguments JSON text of what the call would run with: references resolved, defaults
   *     applied
   * @param approvalId id under which the decision is made
   */
  record ApprovalRequested(
      int turn, int index, String callId, String toolName, String arguments, String approvalId)
      implements CallEvent {}

  /**
   * A human was asked about a call. The decision takes effect once all have answered.
   *
   * @param turn number of the model turn
   * @param index position of the call
   * @param approval the decision; empty where the question was left open
   */
  record ApprovalDecided(int turn, int index, Optional<Approval> approval) implements CallEvent {}

  /**
   * Calls that were sent early are void; the turn is sent again as one batch.
   *
   * @param turn number of the model turn
   * @param reason why
   */
  record EarlyStartAbandoned(int turn, String reason) implements ChatEvent {}

  /**
   * The model's turn is over and each of its calls is answered.
   *
   * @param turn number of the model turn
   * @param text what the model wrote in the turn
   * @param callCount how many calls it made
   * @param usage tokens that the turn took
   */
  record TurnFinished(int turn, String text, int callCount, Usage usage) implements ChatEvent {}

  /**
   * The chat ends with an exception, which {@link ChatLoop#run} throws next.
   *
   * @param turn number of the model turn
   * @param error the exception
   */
  record ErrorOccurred(int turn, RuntimeException error) implements ChatEvent {}
}
