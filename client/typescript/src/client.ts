/** The client of a sidecar. */

import {
  create,
  type DescMessage,
  type DescMethodUnary,
  type MessageShape,
} from "@bufbuild/protobuf";
import { sleep } from "./aborting.js";
import { BatchStream } from "./batchStream.js";
import { Channel, type RpcOptions } from "./channel.js";
import { type ConnectionOptions, resolveConnection } from "./connection.js";
import { checkedMs } from "./durations.js";
import { SidecallError } from "./errors.js";
import {
  type GetCapabilitiesRequest,
  GetCapabilitiesRequestSchema,
  ListToolsRequestSchema,
  ToolService,
} from "./gen/sidecall/v1/tool_service_pb.js";
import {
  batchRequest,
  batchResults,
  type ExecuteOptions,
  forgetsInstance,
  streamStart,
} from "./requests.js";
import type { BatchResults, ToolResult } from "./results.js";
import { Attempts } from "./retry.js";
import { type Arguments, type ToolCallLike, makeToolCall } from "./toolCalls.js";
import { type Capabilities, capabilitiesOf, type Tool, type ToolList, toolOf } from "./tools.js";

const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 50;
const MAX_LISTINGS = 5;

/** How to reach a sidecar, and how often to try. */
export interface ClientOptions extends ConnectionOptions {
  /**
   * How often an RPC is sent again where that certainly runs no call twice: it started
   * nothing, or has a `requestId` that the sidecar knows, or refuses where it was restarted and
   * has forgotten it. Pauses grow from 0.1 to 2 seconds, which by default outlasts a restart;
   * RPCs end at their timeout all the same, and at once where the sidecar asks for a pause of
   * more than 5 seconds (`SidecallError.retryAfterMs`).
   */
  retries?: number | undefined;
}

/**
 * A client of one sidecar. It connects when it is first used.
 *
 * Every method takes `timeoutMs`, `signal` and `metadata`. One that is aborted throws the
 * signal's reason; one whose RPC fails throws a `SidecallError`.
 */
export class Client implements AsyncDisposable {
  readonly #channel: Channel;
  readonly #retries: number | undefined;
  #instanceId = "";

  /** @throws RangeError: An option or a variable makes no sense. */
  constructor(options: ClientOptions = {}) {
    this.#channel = new Channel(resolveConnection(options));
    this.#retries = options.retries;
  }

  /** Closes the connection for good. RPCs in flight end with a SidecallError, CANCELLED. */
  close(): void {
    this.#channel.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /**
   * Waits until the sidecar serves.
   *
   * @param options - `timeoutMs`: how long to wait, by default 30 seconds.
   * @throws SidecallError: It does not serve in time, or refuses this client.
   */
  async waitUntilReady(options: RpcOptions = {}): Promise<Capabilities> {
    const timeoutMs = checkedMs("timeoutMs", options.timeoutMs ?? READY_TIMEOUT_MS);
    const attempts = new Attempts({ retries: 0, timeoutMs });
    for (;;) {
      try {
        const response = await this.#channel.unary(ToolService.method.getCapabilities, asking(), {
          ...options,
          timeoutMs: attempts.remainingMs(),
          waitForReady: true,
        });
        return capabilitiesOf(response);
      } catch (error) {
        const refused = !(error instanceof SidecallError) || error.code !== "UNAVAILABLE";
        if (refused || attempts.remainingMs() === 0) throw error;
      }
      await sleep(READY_POLL_MS, options.signal);
    }
  }

  /** Returns what the sidecar speaks and its limits. */
  async getCapabilities(options: RpcOptions = {}): Promise<Capabilities> {
    const { getCapabilities } = ToolService.method;
    return capabilitiesOf(await this.#repeat(getCapabilities, asking(), options));
  }

  /**
   * Returns all tools that the caller may use, ordered by name.
   *
   * @param options - `timeoutMs`: for each page.
   */
  async listTools(options: RpcOptions = {}): Promise<ToolList> {
    for (let listing = 1; ; listing += 1) {
      try {
        return await this.#listOnce(options);
      } catch (error) {
        // The tools changed between two pages: a new listing has them all.
        const changed = error instanceof SidecallError && error.code === "ABORTED";
        if (!changed || listing >= MAX_LISTINGS) throw error;
      }
    }
  }

  /**
   * Executes the calls of one turn and returns one result per call, in call order.
   *
   * With a `requestId` the batch is sent again also after a lost connection: the sidecar runs
   * no call a second time. One that was restarted meanwhile knows what has run only where its
   * requests are durable; else it refuses, with reason REQUEST_FORGOTTEN. Who sends it again by
   * hand, after an error of which `notStarted` is false, passes the error's `sentToInstance` on.
   *
   * @param calls - Calls, or a provider's tool calls as they are.
   * @param options - `timeoutMs`: for the whole batch; the sidecar answers shortly before with
   *   the results so far.
   * @throws SidecallError: The RPC failed; `notStarted` says whether that is harmless.
   * @throws RangeError: An option has no such value.
   * @throws TypeError: Something is not a tool call.
   */
  async executeBatch(
    calls: Iterable<ToolCallLike>,
    options: ExecuteOptions = {},
  ): Promise<BatchResults> {
    const request = batchRequest(calls, options);
    const earlier = request.sentToInstance;
    let instanceId = earlier;
    const attempts = this.#attempts(options, { mayHaveStarted: earlier !== "" });
    if (request.requestId) {
      const left = { ...options, timeoutMs: attempts.remainingMs() };
      instanceId ||= await this.#findInstance(left, this.#retries);
      attempts.repeatable = instanceId !== "";
    }
    const noteFailure = (error: SidecallError): void => {
      if (!error.notStarted) request.sentToInstance = error.sentToInstance = instanceId;
    };
    const { executeBatch } = ToolService.method;
    const response = await this.#invoke(executeBatch, request, options, attempts, noteFailure);
    return batchResults(request, response);
  }

  /**
   * Executes one call; `executeBatch` for a batch of one.
   *
   * Where a human may have to approve it, give a `requestId` to send it again with.
   */
  async call(
    name: string,
    given?: Arguments | null,
    options: ExecuteOptions = {},
  ): Promise<ToolResult> {
    const { results } = await this.executeBatch(
      [makeToolCall({ name, arguments: given })],
      options,
    );
    const [result] = results;
    if (!result) throw new SidecallError("no result came back", { code: "INTERNAL" });
    return result;
  }

  /**
   * Opens a turn whose calls are sent one by one; see `BatchStream`.
   *
   * @param options - `timeoutMs`: for the whole turn; aborting `signal` cancels it.
   * @throws SidecallError: The sidecar does not accept the turn.
   */
  async streamBatch(options: ExecuteOptions = {}): Promise<BatchStream> {
    checkedMs("timeoutMs", options.timeoutMs);
    const start = streamStart(options);
    if (start.requestId && !start.sentToInstance) {
      // Where the turn goes now is where it was sent to, should it have to be sent again.
      const instanceId = await this.#findInstance(options, 0);
      return await BatchStream.open(this.#channel, start, instanceId, options);
    }
    return await BatchStream.open(this.#channel, start, start.sentToInstance, options);
  }

  async #listOnce(options: RpcOptions): Promise<ToolList> {
    const tools: Tool[] = [];
    for (let pageToken = ""; ;) {
      const request = create(ListToolsRequestSchema, { pageToken });
      const page = await this.#repeat(ToolService.method.listTools, request, options);
      tools.push(...page.tools.map(toolOf));
      pageToken = page.nextPageToken;
      if (!pageToken) return Object.assign(tools, { revision: page.revision });
    }
  }

  /**
   * The sidecar's instance id, to be read before a first send; empty where it does not tell.
   *
   * @throws SidecallError: The sidecar does not answer.
   */
  async #findInstance(options: RpcOptions, retries: number | undefined): Promise<string> {
    if (this.#instanceId) return this.#instanceId;
    const attempts = new Attempts({ retries, timeoutMs: options.timeoutMs, repeatable: true });
    try {
      const { getCapabilities } = ToolService.method;
      const { instanceId } = await this.#invoke(getCapabilities, asking(), options, attempts);
      this.#instanceId = instanceId;
    } catch (error) {
      if (!(error instanceof SidecallError)) throw error;
      if (error.code === "UNAVAILABLE" || error.code === "DEADLINE_EXCEEDED") {
        error.notStarted = true; // The batch comes after it.
        throw error;
      }
    }
    return this.#instanceId;
  }

  #attempts(
    options: RpcOptions,
    more: { repeatable?: boolean; mayHaveStarted?: boolean } = {},
  ): Attempts {
    const timeoutMs = checkedMs("timeoutMs", options.timeoutMs);
    return new Attempts({ retries: this.#retries, timeoutMs, ...more });
  }

  /** Invokes what changes nothing. */
  async #repeat<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: RpcOptions,
  ): Promise<MessageShape<O>> {
    return await this.#invoke(
      method,
      request,
      options,
      this.#attempts(options, { repeatable: true }),
    );
  }

  async #invoke<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: RpcOptions,
    attempts: Attempts,
    onFailure?: (error: SidecallError) => void,
  ): Promise<MessageShape<O>> {
    for (;;) {
      let delayMs: number | undefined;
      try {
        const left = { ...options, timeoutMs: attempts.remainingMs() };
        return await this.#channel.unary(method, request, left);
      } catch (error) {
        if (!(error instanceof SidecallError)) throw error;
        if (forgetsInstance(error)) this.#instanceId = "";
        delayMs = attempts.delayMs(error);
        onFailure?.(error);
        if (delayMs === undefined) throw error;
      }
      await sleep(delayMs, options.signal);
    }
  }
}

function asking(): GetCapabilitiesRequest {
  return create(GetCapabilitiesRequestSchema);
}
