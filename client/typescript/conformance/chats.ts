/** Runs chats. */

import OpenAI from "openai";
import {
  type Api,
  type ApprovalHook,
  type ChatEvent,
  ChatLoop,
  type ChatOptions,
  type Message,
} from "sidecall/chat";
import { type Decision, decided, type GivenOptions, optionsOf } from "./batches.js";
import { eventOf } from "./events.js";
import { clientOf, errorOf, HookError, type Json, type Request } from "./protocol.js";

interface Rule extends Decision {
  tool: string;
  call_id?: string;
}

interface Run {
  input: string | Message<Api>[];
  cancel_after?: { event: string; count: number };
}

interface ChatRequest extends Request {
  model: { base_url: string; api_key: string; name: string };
  options?: {
    api?: Api;
    stream?: boolean;
    early_start?: boolean;
    max_turns?: number;
    tools?: string[];
    reference_hint?: boolean;
    attachments?: boolean;
    context?: Record<string, string>;
    session_id?: string;
    resend?: boolean;
    batch_timeout_ms?: number;
    batch?: GivenOptions;
    request?: Record<string, unknown>;
  };
  approvals?: Rule[];
  runs: Run[];
}

/** Runs one chat at a time. */
export class Chats {
  #running: AbortController | undefined;
  #events: Json[] = [];
  #cancelAfter: Run["cancel_after"];

  /** Cancels the run in hand. */
  cancel(): void {
    this.#running?.abort();
  }

  /** Runs the chat of a request. */
  async run(request: Request): Promise<Json> {
    const given = request as ChatRequest;
    const client = clientOf(given.sidecar);
    try {
      const loop = new ChatLoop<Api>({ ...this.#optionsOf(given), client });
      const runs: Json[] = [];
      for (const run of given.runs) runs.push(await this.#run(loop, run));
      return { runs };
    } catch (error) {
      // Only the options can be wrong here: what a run throws is part of its answer.
      return { runs: [{ outcome: "error", error: errorOf(error), history: [], events: [] }] };
    } finally {
      client.close();
    }
  }

  #optionsOf(given: ChatRequest): Omit<ChatOptions<Api>, "client"> {
    const { options = {}, model } = given;
    return {
      openai: new OpenAI({ baseURL: model.base_url, apiKey: model.api_key, maxRetries: 0 }),
      model: model.name,
      api: options.api,
      stream: options.stream,
      earlyStart: options.early_start,
      maxTurns: options.max_turns,
      tools: options.tools,
      referenceHint: options.reference_hint,
      attachments: options.attachments,
      context: options.context,
      sessionId: options.session_id,
      resend: options.resend,
      batchTimeoutMs: options.batch_timeout_ms,
      batchOptions: withoutUndefined(optionsOf(options.batch ?? {})),
      requestOptions: options.request,
      onEvent: (event) => {
        this.#take(event);
      },
      approve: given.approvals && hookOf(given.approvals),
    };
  }

  async #run(loop: ChatLoop<Api>, run: Run): Promise<Json> {
    this.#events = [];
    this.#cancelAfter = run.cancel_after;
    const running = new AbortController();
    this.#running = running;
    const told = await loop.run(run.input, { signal: running.signal }).then(
      ({ text, refusal, stoppedReason, usage }) => ({
        outcome: "answer",
        text,
        refusal,
        stopped_reason: stoppedReason,
        usage: { input_tokens: usage.inputTokens, output_tokens: usage.outputTokens },
      }),
      (error: unknown) =>
        error === running.signal.reason
          ? { outcome: "cancelled" }
          : { outcome: "error", error: errorOf(error) },
    );
    this.#running = undefined;
    return { ...told, history: structuredClone(loop.history), events: this.#events };
  }

  #take(event: ChatEvent): void {
    this.#events.push(eventOf(event));
    const wanted = this.#cancelAfter;
    if (wanted?.event !== event.type) return;
    if (this.#events.filter((each) => each.event === wanted.event).length === wanted.count) {
      this.cancel();
    }
  }
}

function hookOf(rules: readonly Rule[]): ApprovalHook {
  return (asked) => {
    const rule = rules.find(
      ({ tool, call_id: callId }) =>
        tool === asked.toolName && (callId === undefined || callId === asked.callId),
    );
    if (rule?.decision === "fail") throw new HookError(rule.comment ?? "");
    return !rule || rule.decision === "open" ? undefined : decided(asked.approvalId, rule);
  };
}

function withoutUndefined<T extends object>(options: T): T {
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  ) as T;
}
