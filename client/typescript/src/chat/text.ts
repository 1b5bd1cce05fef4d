/** Texts that answer a call which has no result: the same in every language. */

import type { SidecallError } from "../errors.js";
import { quoted } from "../texts.js";

export const PENDING =
  "CANCELLED: the conversation went on before this call had a result. " +
  "It may have taken effect; check before you call it again.";
export const NOT_RUN_LENGTH =
  "NOT RUN: the answer that made this call was cut off at the output limit. None of its " +
  "calls has taken effect.";
export const NOT_RUN_FILTER =
  "NOT RUN: the answer that made this call was stopped by a content filter. None of its " +
  "calls has taken effect.";
export const APPROVAL_LOST =
  "NOT RUN: a human decided on this call, but too late: the tools no longer know the " +
  "question. Make the call again if it is still wanted.";
export const NOT_SUPPORTED = "NOT RUN: only function tools can be called here.";
export const NO_RECIPIENT =
  "NOT RUN: each entry of tool_uses needs the name of a tool as recipient_name.";
const MAX_NAMES = 20;

/** Says that a tool was called that the chat does not offer. */
export function notOffered(name: string, offered: readonly string[]): string {
  const known =
    offered.slice(0, MAX_NAMES).join(", ") + (offered.length > MAX_NAMES ? ", ..." : "");
  return `NOT RUN: there is no tool ${quoted(name)}. The tools are: ${known}.`;
}

/** Says that a whole batch has no results. */
export function failed(error: SidecallError): string {
  if (error.notStarted) {
    return `NOT RUN: the tools cannot be reached at present (${error.message}).`;
  }
  return (
    `UNKNOWN: the connection to the tools failed (${error.message}). This call may have taken ` +
    "effect; check before you call it again."
  );
}
