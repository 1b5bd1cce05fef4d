/** Waiting that ends when an AbortSignal says so. */

import { MAX_TIMER_MS } from "./durations.js";

/** Waits. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const slept = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.min(ms, MAX_TIMER_MS));
  });
  return untilAborted(slept, signal).finally(() => {
    clearTimeout(timer);
  });
}

/** Waits for a promise, or throws the signal's reason where that comes first. */
export async function untilAborted<T>(waiting: PromiseLike<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return await waiting;
  let stop: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = onAbort(signal, reject);
  });
  try {
    return await Promise.race([waiting, aborted]);
  } finally {
    stop?.();
  }
}

/**
 * Calls back once with the reason when a signal is aborted, at once where it is already.
 *
 * @returns What takes the callback back.
 */
export function onAbort(
  signal: AbortSignal | undefined,
  callback: (reason: Error) => void,
): () => void {
  if (!signal) return () => undefined;
  if (signal.aborted) {
    callback(reasonOf(signal));
    return () => undefined;
  }
  const waiting = waitingFor.get(signal) ?? new Waiting(signal);
  waitingFor.set(signal, waiting);
  const entry = { callback };
  waiting.add(entry);
  return () => {
    waiting.delete(entry);
  };
}

interface Entry {
  readonly callback: (reason: Error) => void;
}

/**
 * Who waits for one signal. It has one listener however many they are: Node.js warns of more
 * than ten, and one signal may end hundreds of RPCs.
 */
class Waiting {
  readonly #entries = new Set<Entry>();
  readonly #signal: AbortSignal;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  add(entry: Entry): void {
    if (this.#entries.size === 0) this.#signal.addEventListener("abort", this.#tell);
    this.#entries.add(entry);
  }

  delete(entry: Entry): void {
    if (this.#entries.delete(entry) && this.#entries.size === 0) {
      this.#signal.removeEventListener("abort", this.#tell);
    }
  }

  readonly #tell = (): void => {
    for (const entry of [...this.#entries]) {
      this.delete(entry);
      entry.callback(reasonOf(this.#signal));
    }
  };
}

const waitingFor = new WeakMap<AbortSignal, Waiting>();

/** Why a signal was aborted; an error in any case. */
export function reasonOf(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new DOMException(String(reason), "AbortError");
}

/** Waits until a promise is settled, but no longer than that many milliseconds. */
export async function settles(waiting: Promise<unknown>, ms: number | undefined): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const settled = waiting.then(
    () => undefined,
    () => undefined,
  );
  const late = new Promise<void>((resolve) => {
    if (ms !== undefined) timer = setTimeout(resolve, Math.min(ms, MAX_TIMER_MS));
  });
  await Promise.race([settled, late]);
  clearTimeout(timer);
}
