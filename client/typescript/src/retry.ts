/** When an RPC may be sent again, and after how long. */

import { type SidecallError, isTransient } from "./errors.js";

/** A sidecar that restarts serves again within their pauses, 3.5 to 7 seconds together. */
export const DEFAULT_RETRIES = 7;

/**
 * A sidecar that asks for a longer pause before the next attempt gets none: whether to wait so
 * long is the caller's choice, who may have other things to do.
 */
const LONGEST_WAIT_MS = 5000;

const INITIAL_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 2000;

/** What an RPC's attempts may do. */
export interface AttemptsOptions {
  /**
   * Most attempts after the first. By default `DEFAULT_RETRIES`, or, where there is a deadline,
   * as many as fit once something may have been started: who gives up then never learns of it.
   */
  retries?: number | undefined;
  /** Milliseconds for all attempts together; undefined for no bound. */
  timeoutMs?: number | undefined;
  /** Whether sending again is harmless even if the RPC was received. */
  repeatable?: boolean;
  /** Whether an earlier RPC may have started what this one asks for. */
  mayHaveStarted?: boolean;
  /** Monotonic milliseconds. */
  clock?: () => number;
  /** Draws from [0, 1). */
  jitter?: () => number;
}

/** The attempts of one RPC, within its deadline. */
export class Attempts {
  /** Whether sending again is harmless even if the RPC was received. */
  repeatable: boolean;
  #left: number;
  readonly #byDefault: boolean;
  #mayHaveStarted: boolean;
  #backoffMs = INITIAL_BACKOFF_MS;
  readonly #clock: () => number;
  readonly #jitter: () => number;
  readonly #deadline: number | undefined;

  constructor(options: AttemptsOptions) {
    this.#left = options.retries ?? DEFAULT_RETRIES;
    this.#byDefault = options.retries === undefined;
    this.repeatable = options.repeatable ?? false;
    this.#mayHaveStarted = options.mayHaveStarted ?? false;
    this.#clock = options.clock ?? (() => performance.now());
    this.#jitter = options.jitter ?? Math.random;
    this.#deadline =
      options.timeoutMs === undefined ? undefined : this.#clock() + options.timeoutMs;
  }

  /** Milliseconds until the deadline, never negative; undefined for no bound. */
  remainingMs(): number | undefined {
    return this.#deadline === undefined ? undefined : Math.max(0, this.#deadline - this.#clock());
  }

  /**
   * Milliseconds to wait before the next attempt; undefined: the error is final.
   *
   * An error then speaks of all attempts: where an earlier one may have started calls, it is
   * no longer `notStarted`.
   */
  delayMs(error: SidecallError): number | undefined {
    this.#mayHaveStarted ||= !error.notStarted;
    error.notStarted = !this.#mayHaveStarted;
    if (!this.#mayGoOn() || !this.#mayRepeat(error)) return undefined;
    this.#left -= 1;
    // Half of it is sure: pauses of next to nothing would be over before a restart is.
    const delay = ((1 + this.#jitter()) / 2) * this.#backoffMs + (error.retryAfterMs ?? 0);
    this.#backoffMs = Math.min(this.#backoffMs * 2, MAX_BACKOFF_MS);
    const remaining = this.remainingMs();
    return remaining === undefined || delay < remaining ? delay : undefined;
  }

  #mayGoOn(): boolean {
    const insists = this.#byDefault && this.#mayHaveStarted && this.#deadline !== undefined;
    return insists || this.#left > 0;
  }

  #mayRepeat(error: SidecallError): boolean {
    if ((error.retryAfterMs ?? 0) > LONGEST_WAIT_MS) return false;
    return isTransient(error) && (error.notStarted || this.repeatable);
  }
}
