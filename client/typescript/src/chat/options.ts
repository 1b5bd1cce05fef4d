/** What can be chosen about a chat, and what comes out of it. */

import type OpenAI from "openai";
import type { Client } from "../client.js";
import type { RpcMetadata } from "../connection.js";
import { checkedMs } from "../durations.js";
import type { BatchOptions } from "../requests.js";
import type { ToolResult } from "../results.js";
import type { ApprovalHook } from "./approvals.js";
import type { EventHook } from "./events.js";
import { REFERENCE_HINT, SESSION_REFERENCE_HINT } from "./hint.js";
import type { EndReason, Settings, Usage } from "./model.js";
import type { BatchCall } from "./turnCalls.js";

/** An API of the provider. */
export type Api = "chat_completions" | "responses";

/** An entry of a conversation, as an API takes it. */
export type Message<A extends Api> = A extends "responses"
  ? OpenAI.Responses.ResponseInputItem
  : OpenAI.Chat.Completions.ChatCompletionMessageParam;

/** Why a chat stopped: why the model's last turn ended, or that it had no turn left. */
export type StoppedReason = EndReason | "max_turns";

/** Options of batches that hold for all turns of a chat. */
export type ChatBatchOptions = Omit<BatchOptions, "approvals" | "requestId" | "sentToInstance">;

/** Choices of a chat loop. */
export interface ChatOptions<A extends Api = "chat_completions"> {
  /** Client of the sidecar. */
  client: Client;
  /** Client of the model's provider; by default `new OpenAI()`, made when it is first used. */
  openai?: Pick<OpenAI, "chat" | "responses"> | undefined;
  /** Name of the model. */
  model: string;
  /** The provider's API to speak; by default "chat_completions". */
  api?: A | undefined;
  /** Whether the model's answers are streamed. */
  stream?: boolean | undefined;
  /**
   * Whether each call is sent when the model has finished that call. Only tools that are
   * read_only start before the model's turn is over.
   */
  earlyStart?: boolean | undefined;
  /** Most answers of the model in one run; by default 10. */
  maxTurns?: number | undefined;
  /** Is told of each event. */
  onEvent?: EventHook | undefined;
  /**
   * Is asked about each call that needs a human's approval. Without it the model is told that
   * a human has to decide, and goes on.
   */
  approve?: ApprovalHook | undefined;
  /**
   * Whether the model is told how calls refer to each other's results. The hint is sent with
   * each request and never kept in the history.
   */
  referenceHint?: boolean | undefined;
  /**
   * Whether the model is shown the images and files in results, which is the default. Otherwise
   * it reads the line that stands for each, as a model without eyes must.
   */
  attachments?: boolean | undefined;
  /** Names of the tools to offer; by default all that the caller may use. */
  tools?: readonly string[] | undefined;
  /** Facts about the end user; tools and policies see them, the model does not. */
  context?: Readonly<Record<string, string>> | undefined;
  /**
   * Session that keeps the results of all turns, so that calls may refer to those of earlier
   * turns by their ids.
   */
  sessionId?: string | undefined;
  /**
   * Whether a turn whose connection is lost is sent again, under a request id, so that no call
   * is run twice: a sidecar that was restarted meanwhile and whose requests are not durable
   * refuses it, which ends the chat. Calls that have started then go on when the chat is
   * cancelled; without it they are cancelled.
   */
  resend?: boolean | undefined;
  /**
   * Milliseconds for the tool calls of one turn, from the end of the turn. They do not run
   * while humans decide, and begin anew after their decisions.
   */
  batchTimeoutMs?: number | undefined;
  /** Further options of each batch. */
  batchOptions?: ChatBatchOptions | undefined;
  /**
   * Further arguments of the API's `create`; `tools` are added to those of the sidecar.
   */
  requestOptions?: Readonly<Record<string, unknown>> | undefined;
}

/** What may be said about one run. */
export interface RunOptions {
  /** Ends the run, which then throws the signal's reason. The history stays valid. */
  signal?: AbortSignal | undefined;
  /** Sent with each RPC of the run: `traceparent`, for example. */
  metadata?: RpcMetadata | undefined;
}

/** One turn of the model and what its calls gave. */
export interface Turn {
  /** What the model wrote. */
  readonly text: string;
  /** The calls as the sidecar was given them, those of a wrapper one by one. */
  readonly calls: readonly BatchCall[];
  /** One result per call; none where the turn's calls were not run. */
  readonly results: readonly ToolResult[];
  /** Tokens that the turn took. */
  readonly usage: Usage;
}

/** What a run came to. */
export interface ChatResult<A extends Api = "chat_completions"> {
  /** The model's answer; empty where it gave none. */
  readonly text: string;
  /** The model's refusal; empty where it did not refuse. */
  readonly refusal: string;
  /** The whole conversation, valid to be sent again. */
  readonly messages: Message<A>[];
  /** The model's turns in this run. */
  readonly turns: readonly Turn[];
  /** Tokens that the run took. */
  readonly usage: Usage;
  /** Why it stopped. */
  readonly stoppedReason: StoppedReason;
}

/** Choices with their defaults. */
export interface Choices {
  readonly api: Api;
  readonly maxTurns: number;
  readonly earlyStart: boolean;
  readonly attachments: boolean;
  readonly resend: boolean;
  readonly approve: ApprovalHook | undefined;
  readonly tools: readonly string[] | undefined;
  readonly batchTimeoutMs: number | undefined;
  /** What each request to the model says. */
  readonly settings: Settings;
  /** Options of each batch. */
  readonly batch: BatchOptions;
}

const RESERVED = ["model", "messages", "input", "stream", "n"];
const RESERVED_BATCH = ["approvals", "requestId", "sentToInstance"];

/**
 * Checks the choices and fills in defaults.
 *
 * @throws RangeError: One of them makes no sense.
 */
export function choicesOf(options: ChatOptions<Api>): Choices {
  const { api = "chat_completions", maxTurns = 10, requestOptions: extra = {} } = options;
  const { batchOptions = {}, context, sessionId, model, stream = false } = options;
  if (!["chat_completions", "responses"].includes(api)) {
    throw new RangeError(`api is "chat_completions" or "responses", not ${JSON.stringify(api)}`);
  }
  if (!Number.isInteger(maxTurns) || maxTurns < 1) {
    throw new RangeError(`maxTurns must be at least 1, not ${maxTurns}`);
  }
  refuse("requestOptions", RESERVED, extra);
  refuse("batchOptions", RESERVED_BATCH, batchOptions);
  const batch: BatchOptions = { ...batchOptions };
  if (context) batch.context = context;
  if (sessionId !== undefined) batch.sessionId = sessionId;
  const hint = batch.sessionId ? SESSION_REFERENCE_HINT : REFERENCE_HINT;
  return {
    api,
    maxTurns,
    earlyStart: options.earlyStart ?? false,
    attachments: options.attachments ?? true,
    resend: options.resend ?? false,
    approve: options.approve,
    tools: options.tools,
    batchTimeoutMs: checkedMs("batchTimeoutMs", options.batchTimeoutMs),
    settings: { model, stream, hint: options.referenceHint ? hint : "", extra },
    batch,
  };
}

function refuse(what: string, reserved: readonly string[], given: object): void {
  const found = reserved.filter((name) => Object.hasOwn(given, name));
  if (found.length > 0) throw new RangeError(`${what} may not hold ${found.join(", ")}`);
}
