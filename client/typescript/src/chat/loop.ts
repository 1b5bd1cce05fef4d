/** The chat loop. */

import { Conversation, usageOf } from "./conversation.js";
import { Emitter, type EventHook } from "./events.js";
import type { HistoryItem } from "./model.js";
import {
  type Api,
  type ChatOptions,
  type ChatResult,
  type Choices,
  choicesOf,
  type Message,
  type RunOptions,
} from "./options.js";
import { Provider } from "./provider.js";
import { ChatRun } from "./run.js";

/**
 * Drives conversations: model, tool calls, sidecar, tool messages, model.
 *
 * The history that it leaves is valid whatever happens: each tool call is answered, also after
 * a cancellation or an error. One loop runs one conversation at a time.
 */
export class ChatLoop<A extends Api = "chat_completions"> {
  readonly #options: ChatOptions<A>;
  readonly #choices: Choices;
  readonly #provider: Provider;
  #history: Message<A>[] = [];
  #running = false;

  /** @throws RangeError: An option makes no sense. */
  constructor(options: ChatOptions<A>) {
    this.#options = options;
    this.#choices = choicesOf(options);
    this.#provider = new Provider(options.openai, this.#choices.api);
  }

  /** The conversation so far. */
  get history(): Message<A>[] {
    return this.#history;
  }

  /**
   * Asks the model until it answers without calling tools.
   *
   * @param messages - A question, which goes on with the loop's history; or a conversation,
   *   which replaces the history and is extended in place.
   * @param options - `signal` cancels the run.
   * @throws SidecallError: The sidecar cannot be reached or refused a request.
   * @throws ModelError: The model's answer broke off, reports an error or cannot be read.
   * @throws RangeError: A tool that was chosen by name is not there.
   * @throws OpenAI.OpenAIError: The provider cannot be reached or refused a request.
   * @throws What a hook threw; an AggregateError where `approve` threw several times in a turn.
   */
  async run(messages: string | Message<A>[], options: RunOptions = {}): Promise<ChatResult<A>> {
    return await this.#run(messages, options, this.#options.onEvent);
  }

  /** Does what `run` does, and gives its events to iterate over, beside `onEvent`. */
  stream(messages: string | Message<A>[], options: RunOptions = {}): ChatRun<A> {
    const { onEvent } = this.#options;
    return new ChatRun<A>((take, leaving) => {
      const signal = options.signal ? AbortSignal.any([options.signal, leaving]) : leaving;
      return this.#run(messages, { ...options, signal }, async (event) => {
        await take(event);
        await onEvent?.(event);
      });
    });
  }

  async #run(
    messages: string | Message<A>[],
    run: RunOptions,
    hook: EventHook | undefined,
  ): Promise<ChatResult<A>> {
    if (this.#running) throw new Error("the loop already runs a conversation");
    this.#running = true;
    try {
      if (typeof messages === "string") {
        // A user message has the same form in both APIs.
        this.#history.push({ role: "user", content: messages });
      } else {
        this.#history = messages;
      }
      const emitter = new Emitter(hook, run.signal);
      const services = { client: this.#options.client, provider: this.#provider, emitter };
      const history = this.#history as unknown as HistoryItem[];
      const conversation = new Conversation(history, this.#choices, services, run);
      const { last, turns, stoppedReason } = await conversation.run();
      return {
        text: last?.text ?? "",
        refusal: last?.refusal ?? "",
        messages: this.#history,
        turns,
        usage: usageOf(turns),
        stoppedReason,
      };
    } finally {
      this.#running = false;
    }
  }
}
