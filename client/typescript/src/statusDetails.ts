/** What a google.rpc.Status says. */

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";

export const ERROR_DOMAIN = "sidecall.dev";

/** Names of the canonical status codes; the place of each is its number. */
export const STATUS_CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** Name of a canonical status code. */
export type StatusCode = (typeof STATUS_CODES)[number];

/** One value of a call's arguments that is wrong. */
export interface Violation {
  /** JSON Pointer of its place; empty for the arguments as a whole. */
  readonly field: string;
  /** What is wrong there. */
  readonly description: string;
}

/** Name of a status code; one that nobody knows is UNKNOWN. */
export function codeName(code: number): StatusCode {
  return STATUS_CODES[code] ?? "UNKNOWN";
}

/** Number of a status code. */
export function codeNumber(code: StatusCode): number {
  return STATUS_CODES.indexOf(code);
}

/** The sidecar's reason, in UPPER_SNAKE_CASE; empty where it gave none. */
export function reasonIn(status: Status): string {
  return (
    detailsOf(status, ErrorInfoSchema).find((info) => info.domain === ERROR_DOMAIN)?.reason ?? ""
  );
}

/** Milliseconds after which to ask again; undefined where nothing was said. */
export function retryDelayMs(status: Status): number | undefined {
  const delay = detailsOf(status, RetryInfoSchema)[0]?.retryDelay;
  return delay && Math.max(0, durationMs(delay));
}

/** What is wrong with a call's arguments. */
export function violationsIn(status: Status): Violation[] {
  return detailsOf(status, BadRequestSchema).flatMap((bad) =>
    bad.fieldViolations.map(({ field, description }) => ({ field, description })),
  );
}

function detailsOf<D extends DescMessage>(status: Status, schema: D): MessageShape<D>[] {
  return status.details.flatMap((packed) => anyUnpack(packed, schema) ?? []);
}
