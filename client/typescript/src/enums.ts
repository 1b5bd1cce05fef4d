/** The contract's enums as the words that they are made of. */

import {
  BlockCause as BlockCauseNumber,
  ExecutionMode as ExecutionModeNumber,
  ExecutionState as ExecutionStateNumber,
  FailurePolicy as FailurePolicyNumber,
} from "./gen/sidecall/v1/execution_pb.js";
import { Effects as EffectsNumber } from "./gen/sidecall/v1/tool_pb.js";

/** How the calls of a batch are ordered against each other. */
export type ExecutionMode = "parallel" | "sequential";
/** What a failed call means for the rest of its batch. */
export type FailurePolicy = "continue" | "stop";
/** What running a tool may change. */
export type Effects = "read_only" | "idempotent" | "non_idempotent";
/**
 * How far a call got: NOT_STARTED may be made again; COMPLETED means that the tool itself
 * returned or failed; UNKNOWN that it was started and may have taken effect, or still do.
 */
export type ExecutionState = "UNSPECIFIED" | "NOT_STARTED" | "COMPLETED" | "UNKNOWN";
/** Something that a call waits for. */
export type BlockCause = keyof typeof BlockCauseNumber;

const MODES: Record<ExecutionMode, ExecutionModeNumber> = {
  parallel: ExecutionModeNumber.PARALLEL,
  sequential: ExecutionModeNumber.SEQUENTIAL,
};
const POLICIES: Record<FailurePolicy, FailurePolicyNumber> = {
  continue: FailurePolicyNumber.CONTINUE,
  stop: FailurePolicyNumber.STOP,
};
const EFFECTS: Record<Effects, EffectsNumber> = {
  read_only: EffectsNumber.READ_ONLY,
  idempotent: EffectsNumber.IDEMPOTENT,
  non_idempotent: EffectsNumber.NON_IDEMPOTENT,
};

export const modeNumber = (mode: ExecutionMode): ExecutionModeNumber =>
  numberIn("mode", MODES, mode);
export const policyNumber = (policy: FailurePolicy): FailurePolicyNumber =>
  numberIn("onFailure", POLICIES, policy);
export const effectsNumber = (effects: Effects): EffectsNumber =>
  numberIn("effects", EFFECTS, effects);

/** What a tool may change; one that does not say may do harm. */
export function effectsName(number: EffectsNumber): Effects {
  if (number === EffectsNumber.READ_ONLY) return "read_only";
  return number === EffectsNumber.IDEMPOTENT ? "idempotent" : "non_idempotent";
}

export function executionStateName(number: ExecutionStateNumber): ExecutionState {
  return (ExecutionStateNumber[number] as ExecutionState | undefined) ?? "UNSPECIFIED";
}

export function blockCauseName(number: BlockCauseNumber): BlockCause {
  return (BlockCauseNumber[number] as BlockCause | undefined) ?? "UNSPECIFIED";
}

function numberIn<K extends string, N extends number>(
  what: string,
  known: Record<K, N>,
  word: K,
): N {
  if (!Object.hasOwn(known, word)) {
    throw new RangeError(
      `${what} is one of ${Object.keys(known).join(", ")}, not ${JSON.stringify(word)}`,
    );
  }
  return known[word];
}
