/** RPC errors as one error that says whether anything was started. */

import { fromBinary } from "@bufbuild/protobuf";
import type { StatusObject } from "@grpc/grpc-js";
import { type Status, StatusSchema } from "./gen/google/rpc/status_pb.js";
import { type StatusCode, codeName, reasonIn, retryDelayMs } from "./statusDetails.js";

/**
 * Reasons with which a sidecar refuses a request, so that nothing of it was started. INTERNAL
 * is none: it says nothing. Nor is REQUEST_FORGOTTEN: an earlier send may have started calls.
 */
export const REJECTIONS: ReadonlySet<string> = new Set([
  "APPROVAL_UNKNOWN",
  "DEADLINE_EXPIRED",
  "DRAINING",
  "FEATURE_UNSUPPORTED",
  "PAGE_TOKEN_INVALID",
  "REQUEST_ID_REUSED",
  "REQUEST_INVALID",
  "REQUEST_MEMORY_FULL",
  "STORE_UNAVAILABLE",
  "TOOLS_CHANGED",
  "TOO_MANY_BATCHES",
]);

const DETAILS_KEY = "grpc-status-details-bin";
// What gRPC says when it could not even connect; nothing of the RPC left this process then.
const NOT_CONNECTED = /^(no connection established|name resolution failed)/i;

/** What a `SidecallError` is made of. */
export interface SidecallErrorOptions {
  code: StatusCode;
  reason?: string | undefined;
  retryAfterMs?: number | undefined;
  notStarted?: boolean | undefined;
  cause?: unknown;
}

/**
 * An RPC to the sidecar ended with a status other than OK.
 *
 * Failures of single calls are not errors: they are in the results.
 */
export class SidecallError extends Error {
  override readonly name = "SidecallError";
  /** Status code of the RPC. */
  readonly code: StatusCode;
  /** Reason that the sidecar gave, in UPPER_SNAKE_CASE; empty where it made no such error. */
  readonly reason: string;
  /** Milliseconds after which the sidecar wants to be asked again, where it said so. */
  readonly retryAfterMs: number | undefined;
  /** The text without code and reason. */
  readonly details: string;
  /**
   * Whether it is certain that no call was started, by this RPC or by one that it repeats.
   * False means that calls may have run.
   */
  notStarted: boolean;
  /**
   * What to send a batch with a `requestId` again with: the sidecar that may have received it.
   * Empty where none has, or it is not known which; in the latter case (`notStarted` is false)
   * it must not be sent again.
   */
  sentToInstance = "";

  constructor(details: string, options: SidecallErrorOptions) {
    const { code, reason = "", retryAfterMs, notStarted = false, cause } = options;
    super(`${reason ? `${code}/${reason}` : code}: ${details}`, { cause });
    this.code = code;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
    this.details = details;
    this.notStarted = notStarted;
  }
}

/** Makes an error of what an RPC ended with. */
export function errorFromRpc(status: StatusObject, cause?: unknown): SidecallError {
  const details = status.details || "no details";
  const code = codeName(status.code);
  const told = findStatus(status);
  if (told) return errorFromStatus(told, { code, details, cause });
  const notStarted = code === "UNAVAILABLE" && NOT_CONNECTED.test(details);
  return new SidecallError(details, { code, notStarted, cause });
}

/** Makes an error of a status that a sidecar made. */
export function errorFromStatus(
  status: Status,
  rpc: { code?: StatusCode; details?: string; cause?: unknown } = {},
): SidecallError {
  const reason = reasonIn(status);
  return new SidecallError(status.message || (rpc.details ?? "no details"), {
    code: rpc.code ?? codeName(status.code),
    reason,
    retryAfterMs: retryDelayMs(status),
    notStarted: REJECTIONS.has(reason),
    cause: rpc.cause,
  });
}

/** Whether the same RPC may succeed a little later: a lost connection, for example. */
export function isTransient(error: SidecallError): boolean {
  return error.code === "UNAVAILABLE" || error.retryAfterMs !== undefined;
}

function findStatus(status: StatusObject): Status | undefined {
  const packed = status.metadata.get(DETAILS_KEY)[0];
  if (!(packed instanceof Uint8Array)) return undefined;
  try {
    return fromBinary(StatusSchema, packed);
  } catch {
    return undefined; // It is not a status: gRPC's own code and message have to do.
  }
}
