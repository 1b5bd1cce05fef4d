/** Early start: a turn's calls go out while the model is still writing the turn. */

import { settles } from "../aborting.js";
import type { BatchEvent } from "../batchEvents.js";
import type { BatchStream } from "../batchStream.js";
import { SidecallError } from "../errors.js";
import type { ToolResult } from "../results.js";
import type { ChatEvent, Emitter } from "./events.js";
import type { TurnRecord } from "./history.js";
import { type BatchCall, isSameCall, type TurnCalls } from "./turnCalls.js";

/** Time in which a sidecar that serves gives the results of calls that are cancelled. */
const ANSWER_MS = 5000;

/** What the early start of a turn needs. */
export interface EarlyOptions {
  /** Number of the model turn. */
  turn: number;
  /** Opens StreamBatch. */
  open: () => Promise<BatchStream>;
  /** Is told what happens to the calls. */
  emitter: Emitter;
  /**
   * Milliseconds for the calls from the seal; then what has not ended is cancelled, which gives
   * it a result, or else ends the turn. Undefined for no bound.
   */
  timeoutMs: number | undefined;
  /**
   * Whether results of calls that were not started are not reported: a human's decision may
   * start them later.
   */
  holdUnstarted: boolean;
}

/** Calls of one turn that are sent over StreamBatch before the turn is over. */
export class EarlyCalls {
  /** Indexes of the calls whose results were reported. */
  readonly told = new Set<number>();
  /** Key under which released calls may be sent again; empty where there is none. */
  requestId = "";
  /** Where they were sent; empty where they must not be sent again. */
  sentToInstance = "";
  readonly #options: EarlyOptions;
  readonly #sent: BatchCall[] = [];
  readonly #results = new Map<number, ToolResult>();
  #stream: BatchStream | undefined;
  #reader: Promise<void> | undefined;
  #canceller: Promise<void> | undefined;
  #readerDone = false;
  #calls: TurnCalls | undefined;
  #record: TurnRecord | undefined;
  #givenUp = false;
  #sealed = false;
  #closed = false;

  constructor(options: EarlyOptions) {
    this.#options = options;
  }

  /** Ends it, whatever state it is in. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stream?.close();
    // Whoever needed to know of their errors has been told.
    await Promise.allSettled([this.#reader, this.#canceller]);
  }

  /** Sends the calls that the model has finished and that were not sent yet. */
  async send(calls: TurnCalls): Promise<void> {
    const unsent = calls.batch.slice(this.#sent.length);
    if (this.#givenUp || unsent.length === 0) return;
    this.#calls = calls;
    try {
      this.#stream ??= await this.#open();
      for (const call of unsent) {
        this.#sent.push(call);
        await this.#stream.send(this.#sent.length - 1, call);
      }
    } catch (error) {
      if (!(error instanceof SidecallError)) throw error;
      await this.abandon(error.message);
    }
  }

  /** Gives up what was sent; only tools that are read_only can have run. */
  async abandon(reason: string): Promise<void> {
    if (this.#givenUp || this.#closed) return;
    this.#givenUp = true;
    this.#stream?.abandon();
    const { turn, emitter } = this.#options;
    await emitter.emit({ type: "early_start_abandoned", turn, reason });
  }

  /**
   * Runs the turn to its end once all of its calls are known.
   *
   * @returns Whether every call has its result in the record. If not, nothing has taken effect,
   *   and the calls are to be sent as one batch.
   * @throws SidecallError: The turn failed after the calls were released. Without a request id
   *   they are never sent again, whatever the sidecar says.
   */
  async complete(calls: TurnCalls, record: TurnRecord): Promise<boolean> {
    if (!this.#sent.every((call, index) => isSameCall(call, calls.batch[index]))) {
      await this.abandon("the model changed a call that had been sent");
    }
    await this.send(calls);
    if (this.#readerDone) await this.#reader;
    const stream = this.#stream;
    if (this.#givenUp || !stream || !this.#reader) return false;
    this.#record = record;
    this.#sealed = true;
    this.requestId = stream.requestId;
    this.sentToInstance = stream.sentToInstance;
    for (const [index, result] of this.#results) record.addResult(index, result);
    await stream.seal();
    await this.#wait(stream, this.#reader);
    await stream.results();
    this.requestId = stream.requestId;
    return true;
  }

  async #open(): Promise<BatchStream> {
    const stream = await this.#options.open();
    this.#reader = this.#read(stream).finally(() => {
      this.#readerDone = true;
    });
    // It is awaited later; until then an error is nobody's fault.
    this.#reader.catch(() => undefined);
    return stream;
  }

  async #wait(stream: BatchStream, reader: Promise<void>): Promise<void> {
    await settles(reader, this.#options.timeoutMs);
    if (!this.#readerDone) {
      this.#canceller = this.#cancelAll(stream);
      this.#canceller.catch(() => undefined);
      await this.#waitForAnswers(reader);
    }
    await reader;
  }

  async #cancelAll(stream: BatchStream): Promise<void> {
    for (const index of this.#sent.keys()) await stream.cancel(index);
  }

  async #waitForAnswers(reader: Promise<void>): Promise<void> {
    while (!this.#readerDone) {
      await settles(reader, ANSWER_MS);
      // While a hook is told of an event, nobody hears of the next one.
      if (!this.#isReaderDone() && !this.#options.emitter.isTelling) {
        const text = "the sidecar did not answer when the time of its calls was over";
        throw new SidecallError(text, { code: "DEADLINE_EXCEEDED" });
      }
    }
  }

  // A call, since the compiler thinks that nobody writes the member while it waits.
  #isReaderDone(): boolean {
    return this.#readerDone;
  }

  async #read(stream: BatchStream): Promise<void> {
    let why = "the sidecar ended the turn before its seal";
    try {
      for await (const event of stream) {
        const told = this.#translate(event);
        if (!told || this.#givenUp || this.#closed || this.#holds(told)) continue;
        await this.#options.emitter.emit(told);
        if (told.type === "call_finished") this.told.add(told.index);
      }
    } catch (error) {
      if (this.#sealed || !(error instanceof SidecallError)) throw error;
      why = error.message;
    }
    if (!this.#sealed) await this.abandon(why);
  }

  #holds(event: ChatEvent): boolean {
    const { holdUnstarted } = this.#options;
    return (
      holdUnstarted &&
      event.type === "call_finished" &&
      event.result.executionState === "NOT_STARTED"
    );
  }

  #keep(index: number, finished: ToolResult): ToolResult {
    const result = this.#calls?.settle(index, finished) ?? finished;
    this.#results.set(index, result);
    this.#record?.addResult(index, result);
    return result;
  }

  #translate(event: BatchEvent): ChatEvent | undefined {
    const { turn } = this.#options;
    switch (event.type) {
      case "queued":
      case "started":
      case "progress":
      case "partial_output":
        return { ...event, turn, type: `call_${event.type}` } as ChatEvent;
      case "result": {
        const result = this.#keep(event.index, event.result);
        return { type: "call_finished", turn, index: event.index, result };
      }
      default:
        return undefined;
    }
  }
}
