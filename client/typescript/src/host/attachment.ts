/** One stream on which a host is attached to a sidecar. */

import { create } from "@bufbuild/protobuf";
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import { settles, sleep } from "../aborting.js";
import type { Duplex } from "../duplex.js";
import { SidecallError } from "../errors.js";
import {
  type AttachRequest,
  AttachRequestSchema,
  type AttachResponse,
  type HostAttach,
  type HostAttached,
  type HostCall,
  type HostResult,
} from "../gen/sidecall/v1/tool_host_pb.js";
import { abandoned, fitting } from "./hostResults.js";
import { Outbox } from "./outbox.js";
import type { CallRunner, RunningCall } from "./runner.js";

/** Time that a sidecar may take to accept a host. */
const ATTACH_MS = 30_000;
/** Time for calls that the sidecar sent before it heard of a drain. */
const CROSSING_MS = 100;

type AttachStream = Duplex<AttachRequest, AttachResponse>;

/** An attachment, from its acceptance to the end of its stream. */
export class Attachment {
  /** What the sidecar said about it. */
  readonly attached: HostAttached;
  readonly #rpc: AttachStream;
  readonly #runner: CallRunner;
  readonly #maxBytes: number;
  readonly #outbox = new Outbox();
  readonly #inHand = new Map<bigint, RunningCall>();
  #onEmpty: (() => void) | undefined;
  #sidecarDrains = false;

  private constructor(rpc: AttachStream, attached: HostAttached, runner: CallRunner, own: number) {
    this.attached = attached;
    this.#rpc = rpc;
    this.#runner = runner;
    this.#maxBytes = Math.min(Number(attached.maxMessageBytes) || own, own);
  }

  /**
   * Attaches on a new stream.
   *
   * @param attach - What the host offers, and the largest message that it takes and sends.
   * @throws SidecallError: The sidecar is not there, or refuses the host.
   */
  static async attach(
    rpc: AttachStream,
    attach: HostAttach,
    runner: CallRunner,
  ): Promise<Attachment> {
    const late = new AbortController();
    const timer = setTimeout(() => {
      late.abort();
      rpc.cancel();
    }, ATTACH_MS);
    try {
      await rpc.write(create(AttachRequestSchema, { message: { case: "attach", value: attach } }));
      // Nothing is sent before the answer: gRPC loses the reason of a refusal that crosses a
      // message.
      const answer = await rpc.read();
      if (answer?.message.case === "attached") {
        return new Attachment(rpc, answer.message.value, runner, Number(attach.maxMessageBytes));
      }
    } catch (error) {
      if (!late.signal.aborted) throw error;
      const text = `the sidecar did not answer within ${ATTACH_MS / 1000} s`;
      throw new SidecallError(text, { code: "UNAVAILABLE", cause: error });
    } finally {
      clearTimeout(timer);
    }
    rpc.cancel();
    const text = "the sidecar did not say that the host is attached";
    throw new SidecallError(text, { code: "INTERNAL" });
  }

  /**
   * Runs calls until the stream ends.
   *
   * @throws SidecallError: It did not end in order.
   */
  async serve(): Promise<void> {
    const writing = this.#write();
    try {
      await this.#read();
    } finally {
      this.#rpc.cancel();
      this.#outbox.drop();
      const calls = [...this.#inHand.values()];
      this.#inHand.clear();
      this.#onEmpty?.();
      for (const call of calls) call.cancel();
      await writing;
    }
  }

  /**
   * Asks for no more calls, waits for those in hand and half-closes then. Calls that have not
   * ended in time are answered as abandoned.
   *
   * @returns Names of the tools of calls that were abandoned.
   */
  async drain(timeoutMs: number): Promise<string[]> {
    const end = performance.now() + timeoutMs;
    this.#send({ case: "drain", value: { $typeName: "sidecall.v1.HostDrain" } });
    await sleep(Math.min(CROSSING_MS, timeoutMs));
    if (this.#inHand.size > 0) {
      const emptied = new Promise<void>((resolve) => {
        this.#onEmpty = resolve;
      });
      await settles(emptied, Math.max(0, end - performance.now()));
    }
    const names = [...this.#inHand.values()].map(({ message }) => message.name).sort();
    for (const attemptId of [...this.#inHand.keys()]) {
      const result = abandoned();
      result.attemptId = attemptId;
      this.#answer(result);
    }
    this.#outbox.close();
    return names;
  }

  /** Sends what there is to send, heartbeats where there is nothing, and half-closes. */
  async #write(): Promise<void> {
    const beatMs = optionalMs(this.attached.heartbeatInterval);
    const $typeName = "sidecall.v1.HostHeartbeat";
    const heartbeat = create(AttachRequestSchema, {
      message: { case: "heartbeat", value: { $typeName } },
    });
    try {
      for (;;) {
        const next = await this.#outbox.get(beatMs);
        if (next === "closed") break;
        await this.#rpc.write(next === "late" ? heartbeat : next);
      }
      this.#rpc.halfClose();
    } catch (error) {
      // Where the stream has ended, who reads learns why.
      if (!(error instanceof SidecallError)) throw error;
    }
  }

  /** Handles messages until the stream ends. */
  async #read(): Promise<void> {
    const silenceMs = optionalMs(this.attached.silenceTimeout);
    for (;;) {
      const reading = this.#rpc.read();
      let heard = false;
      const noted = reading.finally(() => {
        heard = true;
      });
      await settles(noted, silenceMs);
      if (!hasHeard(() => heard)) {
        reading.catch(() => undefined);
        const text = `nothing was heard of the sidecar for ${(silenceMs ?? 0) / 1000} s`;
        throw new SidecallError(text, { code: "UNAVAILABLE" });
      }
      const response = await reading;
      if (!response) return;
      this.#handle(response);
    }
  }

  #handle({ message }: AttachResponse): void {
    if (message.case === "call") this.#start(message.value);
    else if (message.case === "cancel") this.#inHand.get(message.value.attemptId)?.cancel();
    else if (message.case === "draining") {
      this.#sidecarDrains = true;
      this.#closeIfDrained();
    }
  }

  #start(message: HostCall): void {
    // After the half-close no result could be sent.
    if (this.#inHand.has(message.attemptId) || this.#outbox.isClosed) return;
    const call = this.#runner.start(message, {
      report: (report) => {
        this.#outbox.report(report);
      },
      done: (result) => {
        if (this.#inHand.get(message.attemptId) === call) this.#answer(result);
      },
    });
    this.#inHand.set(message.attemptId, call);
  }

  #answer(result: HostResult): void {
    this.#inHand.delete(result.attemptId);
    this.#outbox.put(fitting(result, this.#maxBytes));
    if (this.#inHand.size > 0) return;
    this.#onEmpty?.();
    this.#closeIfDrained();
  }

  #closeIfDrained(): void {
    if (this.#sidecarDrains && this.#inHand.size === 0) this.#outbox.close();
  }

  #send(message: AttachRequest["message"]): void {
    this.#outbox.put(create(AttachRequestSchema, { message }));
  }
}

function optionalMs(duration: Duration | undefined): number | undefined {
  return (duration && durationMs(duration)) || undefined;
}

// A call, since the compiler thinks that nobody writes the variable while it waits.
function hasHeard(read: () => boolean): boolean {
  return read();
}
