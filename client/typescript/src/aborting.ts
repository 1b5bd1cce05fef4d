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
  const abort = (): void => {
    callback(reasonOf(signal));
  };
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  return () => {
    signal.removeEventListener("abort", abort);
  };
}

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
