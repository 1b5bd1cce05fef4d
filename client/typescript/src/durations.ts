/** Times in milliseconds, and what they are in the contract. */

import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";

/** The longest time that a timer of JavaScript can wait. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Returns the time where it is one.
 *
 * @throws RangeError: It is not positive and finite.
 */
export function checkedMs(name: string, value: number | undefined): number | undefined {
  if (value !== undefined && !(Number.isFinite(value) && value > 0)) {
    throw new RangeError(`${name} must be positive and finite, not ${String(value)}`);
  }
  return value;
}

/** Makes a duration of milliseconds. */
export function toDuration(ms: number): Duration {
  const seconds = Math.floor(ms / 1000);
  const nanos = Math.min(999_999_999, Math.round((ms - seconds * 1000) * 1e6));
  return create(DurationSchema, { seconds: BigInt(seconds), nanos });
}
