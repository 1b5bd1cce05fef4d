/** How many calls run at a time. */

import { onAbort } from "../aborting.js";

/** Slots; who waits gets one in turn. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Waits for a slot; false where the signal is aborted first. */
  async take(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    if (this.#free > 0) {
      this.#free -= 1;
      return true;
    }
    return await new Promise<boolean>((resolve) => {
      const given = (): void => {
        stop();
        resolve(true);
      };
      this.#waiting.add(given);
      const stop = onAbort(signal, () => {
        this.#waiting.delete(given);
        resolve(false);
      });
    });
  }

  /** Gives a slot back. */
  giveBack(): void {
    const [next] = this.#waiting;
    if (!next) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
