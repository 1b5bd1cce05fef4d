/** One turn over StreamBatch. */

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type BatchEvent, batchEventOf, type BatchSummary } from "./batchEvents.js";
import type { Channel, RpcOptions } from "./channel.js";
import type { Duplex } from "./duplex.js";
import { SidecallError } from "./errors.js";
import {
  type StreamBatchRequest,
  StreamBatchRequestSchema,
  type StreamBatchResponse,
  type StreamStart,
  ToolService,
} from "./gen/sidecall/v1/tool_service_pb.js";
import type { BatchResults, ToolResult } from "./results.js";
import { type ToolCallLike, toToolCall } from "./toolCalls.js";

/**
 * One turn whose calls are sent while the model is still producing them.
 *
 * Events have one consumer: either iterate, or await `results()`, or first one and then the
 * other. Close it in any case, or declare it with `await using`: leaving before the turn is
 * over cancels it.
 */
export class BatchStream implements AsyncDisposable, AsyncIterable<BatchEvent> {
  /**
   * Where the turn was first sent, for `executeBatch` under the same request id. Empty where
   * that is not known, or the turn has no request id of its own: then a lost turn must not be
   * sent again.
   */
  readonly sentToInstance: string;
  readonly #rpc: Duplex<StreamBatchRequest, StreamBatchResponse>;
  readonly #requestId: string;
  readonly #sent = new Set<number>();
  readonly #results = new Map<number, ToolResult>();
  #pending: BatchEvent[] = [];
  #summary: BatchSummary | undefined;
  #sealed = false;
  #halfClosed = false;
  #over = false;

  private constructor(
    rpc: Duplex<StreamBatchRequest, StreamBatchResponse>,
    start: StreamStart,
    sentToInstance: string,
  ) {
    this.#rpc = rpc;
    this.#requestId = start.requestId;
    this.sentToInstance = sentToInstance;
  }

  /**
   * Opens a turn; `Client.streamBatch` does it.
   *
   * @throws SidecallError: The sidecar does not accept the turn.
   */
  static async open(
    channel: Channel,
    start: StreamStart,
    sentToInstance: string,
    options: RpcOptions,
  ): Promise<BatchStream> {
    try {
      const rpc = await channel.duplex(ToolService.method.streamBatch, options);
      try {
        await rpc.write(messageOf({ case: "start", value: start }));
        // Nothing is sent before the sidecar has accepted the turn: a message that gRPC
        // cannot send any more hides the reason of a refusal.
        const first = await rpc.read();
        const stream = new BatchStream(rpc, start, sentToInstance);
        stream.#take(first);
        return stream;
      } catch (error) {
        rpc.cancel();
        throw error;
      }
    } catch (error) {
      // No call was sent now, whatever the reason.
      if (error instanceof SidecallError) {
        error.notStarted = start.sentToInstance === "";
        error.sentToInstance = start.sentToInstance;
      }
      throw error;
    }
  }

  /** The turn's summary; undefined before it is over. */
  get summary(): BatchSummary | undefined {
    return this.#summary;
  }

  /**
   * Key under which the turn's calls may be sent again, by `executeBatch`.
   *
   * Once the turn is over it may be one that the sidecar made because a call waits for
   * approval. Empty where there is none.
   */
  get requestId(): string {
    return this.#summary?.requestId ?? this.#requestId;
  }

  /** Leaves the turn; one that is not over is cancelled. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#rpc.cancel();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /**
   * Sends a call that the model has finished.
   *
   * @param index - Its position in the turn, counted from 0.
   * @throws SidecallError: The RPC failed.
   * @throws RangeError: The index was sent before, or the turn is sealed or abandoned.
   */
  async send(index: number, call: ToolCallLike): Promise<void> {
    if (this.#sent.has(index) || this.#sealed || this.#halfClosed) {
      throw new RangeError(`call ${index} cannot be sent: it was, or the turn has ended`);
    }
    const message = toToolCall(call);
    this.#sent.add(index);
    await this.#write({ case: "call", value: { index, call: message } });
  }

  /**
   * Ends the turn: calls that are held may start.
   *
   * @throws SidecallError: The RPC failed.
   * @throws RangeError: The turn is sealed or abandoned.
   */
  async seal(): Promise<void> {
    if (this.#sealed) throw new RangeError("the turn is already sealed");
    this.#checkNotAbandoned();
    this.#sealed = true;
    await this.#write({ case: "seal", value: { callCount: this.#sent.size } });
  }

  /**
   * Cancels one call. One that is already final is left as it is.
   *
   * @throws SidecallError: The RPC failed.
   * @throws RangeError: The turn is abandoned.
   */
  async cancel(index: number): Promise<void> {
    if (this.#summary || this.#over || this.#results.has(index)) return;
    this.#checkNotAbandoned();
    await this.#write({ case: "cancel", value: { index } });
  }

  /** Gives the unsealed turn up: calls that are held are never started. */
  abandon(): void {
    if (this.#halfClosed || this.#over) return;
    this.#halfClosed = true;
    this.#rpc.halfClose();
  }

  /**
   * Iterates over the turn's events, the summary last.
   *
   * @throws SidecallError: The RPC failed.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<BatchEvent, void, undefined> {
    for (;;) {
      const event = this.#pending.shift();
      if (event) {
        this.#note(event);
        yield event;
      } else if (this.#over) {
        return;
      } else {
        this.#take(await this.#read());
      }
    }
  }

  /**
   * Waits for the turn to end and returns its results, ordered by index.
   *
   * @throws SidecallError: The RPC failed, or a call that was sent has no result.
   */
  async results(): Promise<BatchResults> {
    for await (const _ of this);
    const missing = [...this.#sent].filter((index) => !this.#results.has(index));
    if (missing.length > 0) {
      const text = `the turn ended without results of the calls ${missing.join(", ")}`;
      throw new SidecallError(text, { code: "INTERNAL" });
    }
    return {
      results: [...this.#results].sort(([a], [b]) => a - b).map(([, result]) => result),
      requestId: this.requestId,
      schedule: this.#summary?.schedule,
    };
  }

  #note(event: BatchEvent): void {
    if (event.type === "result") this.#results.set(event.index, event.result);
    if (event.type !== "summary") return;
    this.#summary = event.summary;
    // The sidecar waits for it, so that what is sent until now does not cross the end of the
    // RPC: gRPC would fail the RPC then, and drop what was not read.
    this.#rpc.halfClose();
  }

  #take(response: StreamBatchResponse | undefined): void {
    if (response)
      this.#pending.push(...response.events.flatMap((each) => batchEventOf(each) ?? []));
    else this.#over = true;
  }

  #checkNotAbandoned(): void {
    if (this.#halfClosed)
      throw new RangeError("the turn is abandoned: nothing can be sent any more");
  }

  async #write(
    message: MessageInitShape<typeof StreamBatchRequestSchema>["message"],
  ): Promise<void> {
    if (this.#summary || this.#over) throw this.#started(this.#rpc.failure());
    try {
      await this.#rpc.write(messageOf(message));
    } catch (error) {
      throw this.#started(error);
    }
  }

  async #read(): Promise<StreamBatchResponse | undefined> {
    try {
      return await this.#rpc.read();
    } catch (error) {
      this.#over = true;
      if (this.#summary) return undefined; // All has been said.
      throw this.#started(error);
    }
  }

  /** Calls of an accepted turn may have run, whatever the reason of an error. */
  #started(error: unknown): unknown {
    if (error instanceof SidecallError) {
      error.notStarted = false;
      error.sentToInstance = this.sentToInstance;
    }
    return error;
  }
}

function messageOf(
  message: MessageInitShape<typeof StreamBatchRequestSchema>["message"],
): StreamBatchRequest {
  return create(StreamBatchRequestSchema, { message } as MessageInitShape<
    typeof StreamBatchRequestSchema
  >);
}
