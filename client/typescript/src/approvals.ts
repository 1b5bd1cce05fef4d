/** What a human decides on calls that wait for it. */

import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Approval, ApprovalSchema, Decision } from "./gen/sidecall/v1/execution_pb.js";
import type { ToolResult } from "./results.js";
import { escapeSurrogates } from "./texts.js";
import { type Arguments, argumentsText } from "./toolCalls.js";

/** Something with an approval id: a `ToolResult`, or a chat's question; or the id itself. */
export type AwaitsApproval = string | { readonly approvalId: string };

/** About a decision. */
export interface DecisionOptions {
  /** Who decides. */
  by?: string | undefined;
  /** When it was decided; by default now. */
  when?: Date | undefined;
}

/**
 * Returns the results of the calls that wait for a human, in order. What such a call would run
 * with is in `approvalArguments`.
 */
export function pendingApprovals(results: Iterable<ToolResult>): ToolResult[] {
  return [...results].filter((result) => isPending(result));
}

/** Whether a call waits for a human. */
export function isPending(result: ToolResult): boolean {
  return result.approvalId !== "" && result.reason === "APPROVAL_REQUIRED";
}

/**
 * Lets a call run.
 *
 * The decision takes effect when the same calls are sent again with `approvals` and the
 * `requestId` of the results that asked for it.
 *
 * @param pending - What waits for approval.
 * @param options - `arguments`: to run the call with instead of the model's; references in
 *   them are not resolved.
 * @throws RangeError: Nothing waits for approval there.
 */
export function approve(
  pending: AwaitsApproval,
  options: DecisionOptions & { arguments?: Arguments | undefined } = {},
): Approval {
  const approval = decide(Decision.APPROVE, pending, options);
  if (options.arguments !== undefined) approval.arguments = argumentsText(options.arguments);
  return approval;
}

/**
 * Keeps a call from running; takes effect as `approve` does.
 *
 * @param pending - What waits for approval.
 * @param options - `comment`: what to tell the model.
 * @throws RangeError: Nothing waits for approval there.
 */
export function reject(
  pending: AwaitsApproval,
  options: DecisionOptions & { comment?: string | undefined } = {},
): Approval {
  const approval = decide(Decision.REJECT, pending, options);
  approval.comment = escapeSurrogates(options.comment ?? "");
  return approval;
}

function decide(decision: Decision, pending: AwaitsApproval, options: DecisionOptions): Approval {
  const approvalId = typeof pending === "string" ? pending : pending.approvalId;
  if (!approvalId)
    throw new RangeError("the call does not wait for approval: it has no approvalId");
  return create(ApprovalSchema, {
    approvalId,
    decision,
    decidedBy: escapeSurrogates(options.by ?? ""),
    decideTime: timestampFromDate(options.when ?? new Date()),
  });
}
