/** Runs the calls of a host. */

import { durationMs } from "@bufbuild/protobuf/wkt";
import { settles } from "../aborting.js";
import { MAX_TIMER_MS } from "../durations.js";
import { ExecutionState } from "../gen/sidecall/v1/execution_pb.js";
import type { AttachRequest, HostCall, HostResult } from "../gen/sidecall/v1/tool_host_pb.js";
import { quoted } from "../texts.js";
import type { HostedTool } from "./definition.js";
import { contextOf } from "./hostedContext.js";
import { type ErrorLog, failed, givenUp, returned, thrown } from "./hostResults.js";
import { Slots } from "./slots.js";
import { collected } from "./yielded.js";

/** A call on its way through a host. */
export interface RunningCall {
  readonly message: HostCall;
  /** Says that nobody waits for it any more; it ends when its function does. */
  cancel(): void;
}

/** What a call needs of the stream that brought it. */
export interface CallPort {
  /** Sends progress or partial output, if there is room. */
  report: (message: AttachRequest) => void;
  /** Takes the result of the call, once. */
  done: (result: HostResult) => void;
}

/**
 * Runs calls, at most so many at a time.
 *
 * Calls outlast the stream that brought them where their functions do not end when they are told
 * to: they keep their slots, so that a host never runs more than it says.
 */
export class CallRunner {
  readonly #tools: ReadonlyMap<string, HostedTool>;
  readonly #slots: Slots;
  readonly #log: ErrorLog;
  readonly #running = new Map<RunningCall, Promise<void>>();

  constructor(tools: ReadonlyMap<string, HostedTool>, maxConcurrency: number, log: ErrorLog) {
    this.#tools = tools;
    this.#slots = new Slots(maxConcurrency);
    this.#log = log;
  }

  /** Names of the tools whose functions run. */
  get runningNames(): string[] {
    return [...this.#running.keys()].map(({ message }) => message.name).sort();
  }

  /** Starts a call. */
  start(message: HostCall, port: CallPort): RunningCall {
    const aborting = new AbortController();
    const timeoutMs = message.timeout && durationMs(message.timeout);
    const state = { expired: false, started: false };
    const timer =
      timeoutMs !== undefined && timeoutMs < MAX_TIMER_MS
        ? setTimeout(() => {
            state.expired = !aborting.signal.aborted;
            aborting.abort(new DOMException("The time for the call was over.", "TimeoutError"));
          }, timeoutMs)
        : undefined;
    const call: RunningCall = {
      message,
      cancel: () => {
        aborting.abort(new DOMException("The call was cancelled.", "AbortError"));
      },
    };
    const { signal } = aborting;
    const run = this.#run(message, signal, port, state).then((result) => {
      clearTimeout(timer);
      this.#running.delete(call);
      result.attemptId = message.attemptId;
      port.done(result);
    });
    this.#running.set(call, run);
    return call;
  }

  /** Cancels what runs and gives it so many milliseconds to end. */
  async stop(timeoutMs: number): Promise<void> {
    for (const call of this.#running.keys()) call.cancel();
    await settles(Promise.allSettled(this.#running.values()), timeoutMs);
  }

  async #run(
    message: HostCall,
    signal: AbortSignal,
    port: CallPort,
    state: { expired: boolean; started: boolean },
  ): Promise<HostResult> {
    const tool = this.#tools.get(message.name);
    const notStarted = ExecutionState.NOT_STARTED;
    if (!tool)
      return failed("NOT_FOUND", `There is no tool ${quoted(message.name)} here.`, notStarted);
    let given: unknown;
    try {
      const prepared = await tool.prepare(JSON.parse(message.arguments || "{}"));
      if ("refusal" in prepared) return prepared.refusal;
      given = prepared.given;
    } catch (error) {
      return thrown(tool.name, error, this.#log, notStarted);
    }
    if (!(await this.#slots.take(signal))) return givenUp(state.expired, false);
    const context = contextOf(message, signal, port.report);
    try {
      state.started = true;
      const value = tool.execute(given, context);
      return returned(await collected(value, context));
    } catch (error) {
      // What a function throws because it was told to end says no more than that.
      const meant = signal.aborted;
      return meant ? givenUp(state.expired, true) : thrown(tool.name, error, this.#log);
    } finally {
      context.end();
      this.#slots.giveBack();
    }
  }
}
