/** Waiting for what happens elsewhere. */

import { setTimeout as pause } from "node:timers/promises";

const WAIT_MS = 30_000;

/** A promise and what fulfils it. */
export class Deferred<T> {
  resolve!: (value: T) => void;
  readonly promise = new Promise<T>((resolve) => {
    this.resolve = resolve;
  });
}

/** Polls until a condition holds. */
export async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + WAIT_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error("what was waited for does not happen");
    await pause(2);
  }
}

/** Messages of a stream, in order. */
export class Inbox<T> {
  readonly #messages: T[] = [];

  put(message: T): void {
    this.#messages.push(message);
  }

  async next(): Promise<T> {
    await until(() => this.#messages.length > 0);
    return this.#messages.shift() as T;
  }
}
