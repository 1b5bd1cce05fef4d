/** What a host has still to send. */

import { toBinary } from "@bufbuild/protobuf";
import { settles } from "../aborting.js";
import { type AttachRequest, AttachRequestSchema } from "../gen/sidecall/v1/tool_host_pb.js";

const MAX_REPORT_BYTES = 4 * 1024 * 1024;

/**
 * Messages in the order in which they are sent.
 *
 * Functions may report faster than the sidecar reads. That must not fill the memory, nor keep
 * results away, so reports are dropped then; the result has all of the output.
 */
export class Outbox {
  #messages: { message: AttachRequest; reportBytes: number }[] = [];
  #reportBytes = 0;
  #closed = false;
  #wake: (() => void) | undefined;

  /** Whether it takes no more. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /** Sends a message, unless it is closed. */
  put(message: AttachRequest): void {
    this.#add(message, 0);
  }

  /** Sends progress or partial output, if there is room. */
  report(message: AttachRequest): void {
    if (this.#reportBytes >= MAX_REPORT_BYTES) return;
    this.#add(message, toBinary(AttachRequestSchema, message).length);
  }

  /** Takes no more; what waits is still sent. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  /** Takes no more, and forgets what waits. */
  drop(): void {
    this.#messages = [];
    this.close();
  }

  /** Waits for the next message: "closed" when there will be none, "late" where none came. */
  async get(timeoutMs: number | undefined): Promise<AttachRequest | "closed" | "late"> {
    if (this.#messages.length === 0 && !this.#closed) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      await settles(woken, timeoutMs);
      this.#wake = undefined;
    }
    const next = this.#messages.shift();
    if (!next) return this.#closed ? "closed" : "late";
    this.#reportBytes -= next.reportBytes;
    return next.message;
  }

  #add(message: AttachRequest, reportBytes: number): void {
    if (this.#closed) return;
    this.#reportBytes += reportBytes;
    this.#messages.push({ message, reportBytes });
    this.#wake?.();
  }
}
