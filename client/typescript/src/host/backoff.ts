/** How long a host waits before it attaches again. */

const INITIAL_MS = 100;
const MAX_MS = 5000;
/** An attachment that lasted for so long begins the pauses anew. */
const STEADY_MS = 10_000;

/** Pauses with exponential backoff and full jitter. */
export class Backoff {
  #boundMs = INITIAL_MS;
  #attachedAt: number | undefined;

  /**
   * @param clock - Monotonic milliseconds.
   * @param jitter - Draws from [0, 1).
   */
  constructor(
    private readonly clock: () => number = () => performance.now(),
    private readonly jitter: () => number = Math.random,
  ) {}

  /** Says that an attempt had success. */
  attached(): void {
    this.#attachedAt = this.clock();
  }

  /**
   * Milliseconds until the next attempt.
   *
   * @param retryAfterMs - What the sidecar asked for; it is waited for in full.
   */
  nextMs(retryAfterMs = 0): number {
    const attachedAt = this.#attachedAt;
    this.#attachedAt = undefined;
    if (attachedAt !== undefined && this.clock() - attachedAt >= STEADY_MS) {
      this.#boundMs = INITIAL_MS;
    }
    const pauseMs = this.jitter() * this.#boundMs;
    this.#boundMs = Math.min(this.#boundMs * 2, MAX_MS);
    return pauseMs + retryAfterMs;
  }
}
