/** The model's provider, over the official library. */

import type OpenAI from "openai";
import { type Dialect, ModelError, type ModelTurn, type StreamPart } from "./model.js";
import type { Api } from "./options.js";

/** A client of the provider. */
export type ProviderClient = Pick<OpenAI, "chat" | "responses">;

/** Asks a model. */
export class Provider {
  readonly #api: Api;
  #client: ProviderClient | undefined;

  /** @param client - Made of the library's defaults, when it is first used, where undefined. */
  constructor(client: ProviderClient | undefined, api: Api) {
    this.#client = client;
    this.#api = api;
  }

  /**
   * Asks for a whole answer.
   *
   * @throws ModelError: The answer reports an error.
   * @throws What the provider's library throws.
   */
  async ask(
    request: Record<string, unknown>,
    dialect: Dialect,
    signal?: AbortSignal,
  ): Promise<ModelTurn> {
    return dialect.parse(await this.#create(request, signal));
  }

  /**
   * Asks for a streamed answer and hands on its parts as they come.
   *
   * @throws ModelError: The answer broke off or reports an error.
   * @throws What the provider's library throws.
   */
  async stream(
    request: Record<string, unknown>,
    dialect: Dialect,
    take: (part: StreamPart) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<ModelTurn> {
    const response = (await this.#create(request, signal)) as AsyncIterable<unknown>;
    const chunks = response[Symbol.asyncIterator]();
    const assembler = dialect.assembler();
    try {
      for (let next = await nextOf(chunks); !next.done; next = await nextOf(chunks)) {
        for (const part of assembler.feed(next.value)) await take(part);
      }
    } finally {
      await chunks.return?.();
    }
    // The library ends a stream that is aborted as if it were whole.
    signal?.throwIfAborted();
    return assembler.finish();
  }

  async #create(request: Record<string, unknown>, signal?: AbortSignal): Promise<unknown> {
    this.#client ??= new (await import("openai")).default();
    const { chat, responses } = this.#client;
    const options = signal ? { signal } : {};
    // The request is made of the API's fields, but of the caller's own as well.
    return this.#api === "responses"
      ? await responses.create(request as unknown as OpenAI.Responses.ResponseCreateParams, options)
      : await chat.completions.create(
          request as unknown as OpenAI.Chat.Completions.ChatCompletionCreateParams,
          options,
        );
  }
}

async function nextOf(chunks: AsyncIterator<unknown>): Promise<IteratorResult<unknown>> {
  try {
    return await chunks.next();
  } catch (error) {
    // Errors of the library say which request they belong to; others are of the connection.
    if (error instanceof Error && "requestID" in error) throw error;
    const text = error instanceof Error ? error.message : String(error);
    throw new ModelError(`the model's stream broke off: ${text}`, { cause: error });
  }
}
