/** The loop itself: model, tool calls, results, model. */

import { reasonOf } from "../aborting.js";
import type { Client } from "../client.js";
import { SidecallError } from "../errors.js";
import type { ExecuteOptions } from "../requests.js";
import { ToolNames } from "../toolNames.js";
import type { Tool } from "../tools.js";
import { ChatCompletions } from "./chatCompletions.js";
import { EarlyCalls } from "./early.js";
import type { Emitter } from "./events.js";
import { newRequestId, TurnExecution } from "./execution.js";
import { answerOpenCalls, TurnRecord } from "./history.js";
import { type Dialect, type HistoryItem, type ModelTurn, type StreamPart, sumOf } from "./model.js";
import type { Choices, RunOptions, StoppedReason, Turn } from "./options.js";
import type { Provider } from "./provider.js";
import { Responses } from "./responses.js";
import { failed, NOT_RUN_FILTER, NOT_RUN_LENGTH } from "./text.js";
import { isSameCall, TurnCalls } from "./turnCalls.js";

/** What a conversation needs from outside. */
export interface Services {
  readonly client: Client;
  readonly provider: Provider;
  readonly emitter: Emitter;
}

/** What a run came to, before its messages have the API's type. */
export interface Conclusion {
  readonly last: ModelTurn | undefined;
  readonly turns: readonly Turn[];
  readonly stoppedReason: StoppedReason;
}

/** Drives one run of a conversation. */
export class Conversation {
  readonly #history: HistoryItem[];
  readonly #choices: Choices;
  readonly #services: Services;
  readonly #run: RunOptions;
  readonly #dialect: Dialect;
  #tools: Tool[] = [];
  #names = new ToolNames([]);
  #turn = 0;

  constructor(history: HistoryItem[], choices: Choices, services: Services, run: RunOptions) {
    this.#history = history;
    this.#choices = choices;
    this.#services = services;
    this.#run = run;
    this.#dialect = choices.api === "responses" ? new Responses() : new ChatCompletions();
  }

  /** Asks the model until it answers without calling tools. */
  async run(): Promise<Conclusion> {
    const { signal } = this.#run;
    answerOpenCalls(this.#history, this.#dialect);
    try {
      signal?.throwIfAborted();
      return await this.#loop();
    } catch (error) {
      if (signal?.aborted) throw reasonOf(signal);
      await this.#services.emitter.report(this.#turn, error);
      throw error;
    }
  }

  async #loop(): Promise<Conclusion> {
    await this.#chooseTools();
    const turns: Turn[] = [];
    let last: ModelTurn | undefined;
    while (this.#turn < this.#choices.maxTurns) {
      this.#turn += 1;
      await this.#services.emitter.emit({ type: "turn_started", turn: this.#turn });
      const [modelTurn, turn] = await this.#oneTurn();
      last = modelTurn;
      turns.push(turn);
      if (last.end !== "completed" || last.calls.length === 0) {
        return { last, turns, stoppedReason: last.end };
      }
    }
    return { last, turns, stoppedReason: "max_turns" };
  }

  async #chooseTools(): Promise<void> {
    const { tools: chosen } = this.#choices;
    let listed: Tool[] = await this.#services.client.listTools(this.#run);
    if (chosen) {
      const known = new Set(listed.map((tool) => tool.name));
      const missing = chosen.filter((name) => !known.has(name)).sort();
      if (missing.length > 0) {
        throw new RangeError(`the sidecar offers no tool ${missing.join(", ")}`);
      }
      listed = listed.filter((tool) => chosen.includes(tool.name));
    }
    this.#tools = listed;
    this.#names = new ToolNames(listed.map((tool) => tool.name));
  }

  async #oneTurn(): Promise<[ModelTurn, Turn]> {
    const announced = this.#newCalls();
    const early = this.#choices.earlyStart ? this.#earlyCalls() : undefined;
    try {
      const modelTurn = await this.#ask(announced, early);
      const turn = await this.#runCalls(modelTurn, announced, early);
      const { text, usage } = turn;
      const callCount = turn.calls.length;
      const { emitter } = this.#services;
      await emitter.emit({ type: "turn_finished", turn: this.#turn, text, callCount, usage });
      return [modelTurn, turn];
    } finally {
      await early?.close();
    }
  }

  #newCalls(): TurnCalls {
    // The history only grows, so its length tells this turn from all others.
    const prefix = `call_${this.#history.length}`;
    const taken = this.#dialect.callIds(this.#history);
    // A tool that was not chosen is not run because a model guesses its name.
    const offeredOnly = this.#choices.tools !== undefined;
    return new TurnCalls(this.#names, (place) => `${prefix}_${place}`, taken, offeredOnly);
  }

  #earlyCalls(): EarlyCalls {
    const { batch, approve, batchTimeoutMs, resend } = this.#choices;
    const options: ExecuteOptions = { ...batch, ...this.#run };
    if (resend) options.requestId = newRequestId();
    return new EarlyCalls({
      turn: this.#turn,
      // No timeout here: the RPC is open while the model is still writing.
      open: () => this.#services.client.streamBatch(options),
      emitter: this.#services.emitter,
      timeoutMs: batchTimeoutMs,
      holdUnstarted: approve !== undefined,
    });
  }

  async #ask(announced: TurnCalls, early: EarlyCalls | undefined): Promise<ModelTurn> {
    const { settings } = this.#choices;
    const { provider } = this.#services;
    const { signal } = this.#run;
    const take = (part: StreamPart): Promise<void> => this.#takePart(part, announced, early);
    const request = this.#dialect.request(this.#history, this.#tools, this.#names, settings);
    if (settings.stream) return await provider.stream(request, this.#dialect, take, signal);
    const turn = await provider.ask(request, this.#dialect, signal);
    if (turn.text) await take({ type: "text", text: turn.text });
    if (turn.refusal) await take({ type: "refusal", text: turn.refusal });
    return turn;
  }

  async #takePart(
    part: StreamPart,
    announced: TurnCalls,
    early: EarlyCalls | undefined,
  ): Promise<void> {
    const { emitter } = this.#services;
    const turn = this.#turn;
    switch (part.type) {
      case "text":
      case "refusal":
        await emitter.emit({ type: `${part.type}_delta`, turn, text: part.text });
        break;
      case "call_done": {
        const first = announced.batch.length;
        const added = announced.add(part.call);
        for (const [place, call] of added.entries()) {
          await emitter.emit({ type: "call_ready", turn, index: first + place, call });
        }
        if (added.length > 0) await early?.send(announced);
        break;
      }
      case "call_reopened":
        await early?.abandon("more of a call arrived after the next one had begun");
    }
  }

  async #runCalls(
    modelTurn: ModelTurn,
    announced: TurnCalls,
    early: EarlyCalls | undefined,
  ): Promise<Turn> {
    const calls = this.#newCalls();
    for (const call of modelTurn.calls) calls.add(call);
    const { attachments } = this.#choices;
    const record = new TurnRecord(this.#history, this.#dialect, modelTurn, calls, attachments);
    if (modelTurn.end === "length") record.fail(NOT_RUN_LENGTH);
    else if (modelTurn.end === "content_filter") record.fail(NOT_RUN_FILTER);
    else if (calls.batch.length > 0) await this.#execute(calls, record, announced, early);
    const results = [...record.results].sort(([a], [b]) => a - b).map(([, result]) => result);
    return { text: modelTurn.text, calls: calls.batch, results, usage: modelTurn.usage };
  }

  async #execute(
    calls: TurnCalls,
    record: TurnRecord,
    announced: TurnCalls,
    early: EarlyCalls | undefined,
  ): Promise<void> {
    const { client, emitter } = this.#services;
    const [turn, choices, run] = [this.#turn, this.#choices, this.#run];
    for (const [index, call] of calls.batch.entries()) {
      if (isSameCall(announced.batch[index], call)) continue;
      await emitter.emit({ type: "call_ready", turn, index, call });
    }
    const execution = new TurnExecution({
      turn,
      calls,
      record,
      choices,
      execute: (batch, options) =>
        client.executeBatch(batch, { ...choices.batch, ...run, ...options }),
      emitter,
      signal: run.signal,
    });
    try {
      await execution.run(early);
    } catch (error) {
      if (error instanceof SidecallError) record.fail(failed(error));
      throw error;
    }
  }
}

/** Adds up what the turns of a run took. */
export function usageOf(turns: readonly Turn[]): Turn["usage"] {
  return sumOf(turns.map((turn) => turn.usage));
}
