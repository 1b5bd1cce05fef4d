/** A run of a chat whose events are iterated over. */

import type { ChatEvent, EventHook } from "./events.js";
import type { Api, ChatResult } from "./options.js";

/**
 * A run of a chat: iterate over its events, await its result, or both.
 *
 * Leaving the iteration early cancels the run. Where the run fails, both throw.
 */
export class ChatRun<A extends Api> implements AsyncIterable<ChatEvent> {
  /** What the run comes to. */
  readonly result: Promise<ChatResult<A>>;
  readonly #events: ChatEvent[] = [];
  readonly #leaving = new AbortController();
  #over = false;
  #wake: (() => void) | undefined;

  /** @param start - Starts the run with a hook that takes its events. */
  constructor(start: (take: EventHook, signal: AbortSignal) => Promise<ChatResult<A>>) {
    const take = (event: ChatEvent): void => {
      this.#events.push(event);
      this.#wake?.();
    };
    this.result = start(take, this.#leaving.signal).finally(() => {
      this.#over = true;
      this.#wake?.();
    });
    // Who only iterates gets the error there.
    this.result.catch(() => undefined);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChatEvent, void, undefined> {
    try {
      for (;;) {
        const event = this.#events.shift();
        if (event) {
          yield event;
        } else if (this.#over) {
          await this.result;
          return;
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
    } finally {
      this.#leaving.abort();
    }
  }
}
