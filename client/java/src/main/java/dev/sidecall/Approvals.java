package dev.sidecall;

import com.google.protobuf.Timestamp;
import dev.sidecall.internal.Texts;
import dev.sidecall.v1.Approval;
import dev.sidecall.v1.Decision;
import dev.sidecall.v1.ToolResult;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What a human decides on calls that wait for it.
 *
 * <p>A decision takes effect when the same calls are sent again with {@link
 * BatchOptions.Builder#approvals} and the request id of the {@link BatchResults} that asked for it.
 * The time of a decision is now; {@link Approval#toBuilder} sets another.
 */
public final class Approvals {
  private Approvals() {}

  /**
   * Returns the results of the calls that wait for a human, in the order of the results.
   *
   * @param results results of a batch
   * @return those with an approval id; what such a call would run with is in its approval_arguments
   */
  public static List<ToolResult> pending(Iterable<ToolResult> results) {
    List<ToolResult> pending = new ArrayList<>();
    for (ToolResult result : results) {
      if (!result.getApprovalId().isEmpty()
          && Results.reasonOf(result).equals("APPROVAL_REQUIRED")) {
        pending.add(result);
      }
    }
    return pending;
  }

  /**
   * Lets a call run.
   *
   * @param approvalId id of what waits for approval
   * @param by who decides; may be empty
   * @return the decision
   * @throws IllegalArgumentException the id is empty
   */
  public static Approval approve(String approvalId, String by) {
    return approve(approvalId, by, null);
  }

  /**
   * Lets a call run.
   *
   * @param approvalId id of what waits for approval
   * @param by who decides; may be empty
   * @param arguments JSON text to run the call with instead of the model's arguments; references in
   *     it are not resolved; null leaves them unchanged
   * @return the decision
   * @throws IllegalArgumentException the id is empty
   */
  public static Approval approve(String approvalId, String by, @Nullable String arguments) {
    Approval.Builder approval = decision(Decision.DECISION_APPROVE, approvalId, by);
    if (arguments != null) {
      approval.setArguments(Texts.escapeSurrogates(arguments));
    }
    return approval.build();
  }

  /**
   * Keeps a call from running.
   *
   * @param approvalId id of what waits for approval
   * @param by who decides; may be empty
   * @param comment what to tell the model; may be empty
   * @return the decision
   * @throws IllegalArgumentException the id is empty
   */
  public static Approval reject(String approvalId, String by, String comment) {
    return decision(Decision.DECISION_REJECT, approvalId, by)
        .setComment(Texts.escapeSurrogates(comment))
        .build();
  }

  private static Approval.Builder decision(Decision decision, String approvalId, String by) {
    if (approvalId.isEmpty()) {
      throw new IllegalArgumentException("the call does not wait for approval: it has no id");
    }
    Instant now = Instant.now();
    return Approval.newBuilder()
        .setApprovalId(Texts.escapeSurrogates(approvalId))
        .setDecision(decision)
        .setDecidedBy(Texts.escapeSurrogates(by))
        .setDecideTime(
            Timestamp.newBuilder().setSeconds(now.getEpochSecond()).setNanos(now.getNano()));
  }
}
