/** Keeps a host attached to its sidecar. */

import { sleep } from "../aborting.js";
import { Channel } from "../channel.js";
import type { Connection } from "../connection.js";
import { SidecallError } from "../errors.js";
import { type HostAttach, ToolHostService } from "../gen/sidecall/v1/tool_host_pb.js";
import type { StatusCode } from "../statusDetails.js";
import { Attachment } from "./attachment.js";
import { Backoff } from "./backoff.js";
import type { CallRunner } from "./runner.js";

const REFUSALS: ReadonlySet<StatusCode> = new Set([
  "ALREADY_EXISTS",
  "INVALID_ARGUMENT",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
  "UNIMPLEMENTED",
]);

/** Takes what a host has to tell whoever operates it. */
export interface HostLogger {
  warn(text: string, error?: unknown): void;
  error(text: string, error?: unknown): void;
}

/** Attaches a host, and attaches it again whenever its stream has ended. */
export class HostLink {
  /** Why the last attempt failed, or attachment ended. */
  failure: unknown;
  readonly #target: string;
  readonly #channel: Channel;
  readonly #attach: HostAttach;
  readonly #runner: CallRunner;
  readonly #logger: HostLogger;
  readonly #onChange: () => void;
  readonly #backoff = new Backoff();
  readonly #closing = new AbortController();
  #attachment: Attachment | undefined;
  #told = false;

  /** @param onChange - Is told when it is attached or detached. */
  constructor(
    connection: Connection,
    attach: HostAttach,
    runner: CallRunner,
    logger: HostLogger,
    onChange: () => void,
  ) {
    this.#target = connection.target;
    this.#channel = new Channel(connection);
    this.#attach = attach;
    this.#runner = runner;
    this.#logger = logger;
    this.#onChange = onChange;
  }

  /** Whether it is attached at present. */
  get isAttached(): boolean {
    return this.#attachment !== undefined;
  }

  /**
   * Serves until it is closed.
   *
   * @throws SidecallError: The sidecar refuses the host, and would again.
   */
  async serve(): Promise<void> {
    try {
      while (!this.#isClosing()) {
        this.failure = await this.#serveOnce();
        if (!this.#isClosing()) await this.#pause(this.failure);
      }
    } finally {
      this.#channel.close();
    }
  }

  /** Ends the stream, whatever state it is in; then `serve` returns soon. */
  stop(): void {
    this.#closing.abort();
    this.#channel.close();
  }

  /**
   * Finishes the calls in hand, for at most so long; then `serve` returns soon.
   *
   * @returns Whether the host was attached; else there is nothing to wait for.
   */
  async drain(timeoutMs: number): Promise<boolean> {
    this.#closing.abort();
    const names = await this.#attachment?.drain(timeoutMs);
    if (!names) return false;
    if (names.length > 0) {
      this.#logger.warn(`functions that still run are abandoned: ${names.join(", ")}`);
    }
    return true;
  }

  /** One attachment; returns why there was none, or why it ended out of order. */
  async #serveOnce(): Promise<unknown> {
    let attachment: Attachment;
    try {
      const rpc = await this.#channel.duplex(ToolHostService.method.attach);
      attachment = await Attachment.attach(rpc, this.#attach, this.#runner);
    } catch (error) {
      if (!isRefusal(error)) return error;
      this.#logger.error(`the sidecar refuses host ${this.#attach.hostName}`, error);
      throw error;
    }
    this.#backoff.attached();
    this.#told = false;
    this.#attachment = attachment;
    this.#onChange();
    try {
      await attachment.serve();
      return undefined;
    } catch (error) {
      return error;
    } finally {
      this.#attachment = undefined;
      this.#onChange();
    }
  }

  async #pause(failure: unknown): Promise<void> {
    // Once is enough: a sidecar may be away for hours.
    if (!this.#told) this.#logger.warn(`not attached to ${this.#target}, trying again`, failure);
    this.#told = true;
    const retryAfterMs = failure instanceof SidecallError ? failure.retryAfterMs : undefined;
    await sleep(this.#backoff.nextMs(retryAfterMs), this.#closing.signal).catch(() => undefined);
  }

  // A call, since the compiler thinks that nobody aborts the signal while it waits.
  #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }
}

/** Whether attaching again in the same way has the same end. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof SidecallError)) return false; // A token that cannot be read, for example.
  // gRPC's own: the offer is larger than a message may be.
  if (error.code === "RESOURCE_EXHAUSTED") return !error.reason;
  return REFUSALS.has(error.code);
}
