/** Offers functions of an application as tools. */

import { create } from "@bufbuild/protobuf";
import { onAbort, reasonOf, settles } from "../aborting.js";
import { type ConnectionOptions, resolveConnection } from "../connection.js";
import { checkedMs } from "../durations.js";
import { SidecallError } from "../errors.js";
import { type HostAttach, HostAttachSchema } from "../gen/sidecall/v1/tool_host_pb.js";
import { VERSION } from "../version.js";
import type { HostedTool } from "./definition.js";
import { HostLink, type HostLogger } from "./hostLink.js";
import { CallRunner } from "./runner.js";

const MAX_CONCURRENCY = 10_000;
const MAX_NAME_BYTES = 256;
const ATTACHED_MS = 30_000;
const DRAIN_MS = 25_000;
/** Time that the sidecar has to end a stream when the host closes. */
const END_MS = 5000;
/** Time that functions have to end once they are cancelled for good. */
const CANCELLED_MS = 500;

/** What a host offers, and where. */
export interface ToolHostOptions extends ConnectionOptions {
  /** The tools, made by `tool`. */
  tools: readonly HostedTool[];
  /** Name of the application for people; by default the program's. */
  name?: string | undefined;
  /** Most calls that run at a time, from 1 to 10 000; by default 16. */
  maxConcurrency?: number | undefined;
  /** Milliseconds that calls get to end when the host closes; by default 25 000. */
  drainTimeoutMs?: number | undefined;
  /** Takes errors of functions and lost connections; by default the console. */
  logger?: HostLogger | undefined;
}

/**
 * Offers functions of this process as tools of a sidecar, from `start` to `close`.
 *
 * It attaches to the sidecar, runs the calls that the sidecar sends, and attaches again by itself
 * when the connection is lost. It can be started once.
 */
export class ToolHost implements AsyncDisposable {
  readonly #attach: HostAttach;
  readonly #drainTimeoutMs: number;
  readonly #runner: CallRunner;
  readonly #link: HostLink;
  readonly #waiting = new Set<() => void>();
  #serving: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #isOver = false;
  #refusal: unknown;

  /**
   * Takes the tools; nothing is connected yet.
   *
   * @throws RangeError: An option makes no sense, or two tools have one name.
   */
  constructor(options: ToolHostOptions) {
    const { tools, name = programName(), maxConcurrency = 16 } = options;
    const logger = options.logger ?? console;
    const connection = resolveConnection(options);
    this.#drainTimeoutMs = checkedMs("drainTimeoutMs", options.drainTimeoutMs) ?? DRAIN_MS;
    this.#attach = create(HostAttachSchema, {
      hostName: checkedName(name),
      tools: tools.map((each) => each.message),
      maxConcurrency: checkedSlots(maxConcurrency),
      userAgent: `sidecall-typescript/${VERSION}`,
      maxMessageBytes: BigInt(connection.maxMessageBytes),
    });
    this.#runner = new CallRunner(byName(tools), maxConcurrency, (text, error) => {
      logger.error(text, error);
    });
    this.#link = new HostLink(connection, this.#attach, this.#runner, logger, () => {
      this.#wakeAll();
    });
  }

  /** Whether the sidecar offers its tools at present. */
  get isAttached(): boolean {
    return this.#link.isAttached;
  }

  /**
   * Begins to attach; it does not wait for the sidecar.
   *
   * @throws Error: It was started before.
   */
  start(): this {
    if (this.#serving) throw new Error("a ToolHost can be started once; make another one");
    this.#serving = this.#link
      .serve()
      .catch((error: unknown) => {
        this.#refusal = error;
      })
      .finally(() => {
        this.#isOver = true;
        this.#wakeAll();
      });
    return this;
  }

  /**
   * Waits until the sidecar offers its tools.
   *
   * @param options - `timeoutMs`: how long to wait, by default 30 seconds.
   * @throws SidecallError: The sidecar has refused the host for good, or it is not attached in
   *   time; the cause is why the last attempt failed.
   */
  async attached(options: { timeoutMs?: number; signal?: AbortSignal } = {}): Promise<void> {
    const timeoutMs = checkedMs("timeoutMs", options.timeoutMs) ?? ATTACHED_MS;
    await this.#until(() => this.isAttached || this.#isOver, options.signal, timeoutMs);
    this.#throwRefusal();
    if (this.isAttached) return;
    const cause = this.#link.failure;
    const why = cause instanceof Error ? cause.message : "the sidecar did not answer";
    const text = `not attached after ${timeoutMs / 1000} s: ${why}`;
    throw new SidecallError(text, { code: "DEADLINE_EXCEEDED", cause });
  }

  /**
   * Starts, and serves until the signal is aborted, which drains it, or it is refused for good.
   *
   * @throws SidecallError: The sidecar has refused the host for good.
   */
  async serve(options: { signal?: AbortSignal } = {}): Promise<void> {
    this.start();
    try {
      await this.#until(() => this.#isOver || options.signal?.aborted === true, options.signal);
    } catch (error) {
      if (!options.signal?.aborted || error !== reasonOf(options.signal)) throw error;
    }
    await this.close();
  }

  /**
   * Drains: calls in hand end, for at most `drainTimeoutMs`. May be called again.
   *
   * @throws SidecallError: The sidecar had refused the host for good.
   */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
    this.#throwRefusal();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    const serving = this.#serving ?? Promise.resolve();
    if (await this.#link.drain(this.#drainTimeoutMs)) await settles(serving, END_MS);
    this.#link.stop();
    await this.#runner.stop(CANCELLED_MS);
    await serving;
  }

  #throwRefusal(): void {
    if (this.#refusal !== undefined) throw this.#refusal as Error;
  }

  async #until(
    isSo: () => boolean,
    signal: AbortSignal | undefined,
    timeoutMs?: number,
  ): Promise<void> {
    signal?.throwIfAborted();
    const end = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
    while (!isSo() && (end === undefined || performance.now() < end)) {
      let wake: (() => void) | undefined;
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
        this.#waiting.add(resolve);
      });
      const stop = onAbort(signal, () => wake?.());
      await settles(woken, end === undefined ? undefined : Math.max(1, end - performance.now()));
      stop();
      if (wake) this.#waiting.delete(wake);
      signal?.throwIfAborted();
    }
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake();
  }
}

function byName(tools: readonly HostedTool[]): ReadonlyMap<string, HostedTool> {
  const named = new Map(tools.map((each) => [each.name, each]));
  if (tools.length === 0) throw new RangeError("a host needs at least one tool");
  if (named.size < tools.length) throw new RangeError("two tools have one name");
  return named;
}

function checkedSlots(maxConcurrency: number): number {
  if (!Number.isInteger(maxConcurrency) || maxConcurrency < 1 || maxConcurrency > MAX_CONCURRENCY) {
    throw new RangeError(
      `maxConcurrency must be from 1 to ${MAX_CONCURRENCY}, not ${maxConcurrency}`,
    );
  }
  return maxConcurrency;
}

function checkedName(name: string): string {
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) {
    throw new RangeError(`the name of a host takes at most ${MAX_NAME_BYTES} bytes`);
  }
  return name;
}

function programName(): string {
  const program = process.argv[1]?.split(/[\\/]/).at(-1) ?? "node";
  return `${program.slice(0, 64)} ${process.pid}`;
}
