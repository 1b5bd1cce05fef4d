/** A bidirectional stream: awaited writes, awaited reads, and one status at its end. */

import { type ClientDuplexStream, status, type StatusObject } from "@grpc/grpc-js";
import { reasonOf } from "./aborting.js";
import { errorFromRpc, SidecallError } from "./errors.js";

const MAX_UNREAD = 256;

/**
 * A bidirectional stream.
 *
 * Nothing that was received is lost: reading ends only after the last message.
 */
export class Duplex<Request, Response> {
  readonly #call: ClientDuplexStream<Request, Response>;
  readonly #signal: AbortSignal | undefined;
  readonly #unread: Response[] = [];
  readonly #writing = new Set<(reason: Error) => void>();
  #status: StatusObject | undefined;
  #ended = false;
  #halfClosed = false;
  #wake: (() => void) | undefined;

  /**
   * @param call - The stream of grpc-js, of which nothing was read yet.
   * @param signal - Throws its reason instead of an error of the RPC once it is aborted.
   * @param onEnd - Is told once when the RPC is over.
   */
  constructor(
    call: ClientDuplexStream<Request, Response>,
    signal: AbortSignal | undefined,
    onEnd: () => void,
  ) {
    this.#call = call;
    this.#signal = signal;
    call.on("data", (message: Response) => {
      this.#unread.push(message);
      if (this.#unread.length >= MAX_UNREAD && !this.#status) call.pause();
      this.#wake?.();
    });
    call.on("status", (ending: StatusObject) => {
      this.#status = ending;
      onEnd();
      for (const reject of this.#writing) reject(this.failure());
      // Only when all has been read is there an end.
      call.resume();
      this.#wake?.();
    });
    call.on("end", () => {
      this.#ended = true;
      this.#wake?.();
    });
    // The status says the same, and more; without a listener Node.js would end the process.
    call.on("error", () => undefined);
  }

  /** Whether the RPC is over, although some of what was received may be unread. */
  get isOver(): boolean {
    return this.#status !== undefined;
  }

  /**
   * Sends a message; the promise is fulfilled when there is room for another one.
   *
   * @throws SidecallError: The RPC is over.
   */
  async write(message: Request): Promise<void> {
    if (this.#status) throw this.failure();
    if (this.#halfClosed) throw new Error("nothing can be written after the half-close");
    await new Promise<void>((resolve, reject) => {
      this.#writing.add(reject);
      this.#call.write(message, (error?: Error | null) => {
        this.#writing.delete(reject);
        // Where the RPC is over its status says more than this error.
        if (!error) resolve();
        else if (this.#status) reject(this.failure());
        else
          this.#call.once("status", () => {
            reject(this.failure());
          });
      });
    });
  }

  /** Sends no more. */
  halfClose(): void {
    if (this.#halfClosed || this.#status) return;
    this.#halfClosed = true;
    this.#call.end();
  }

  /** Ends the RPC at once. */
  cancel(): void {
    this.#call.cancel();
  }

  /**
   * Waits for the next message; undefined at the end of an RPC whose status is OK.
   *
   * @throws SidecallError: The RPC ended with another status.
   */
  async read(): Promise<Response | undefined> {
    for (;;) {
      const message = this.#unread.shift();
      if (message !== undefined) {
        if (this.#unread.length < MAX_UNREAD / 2) this.#call.resume();
        return message;
      }
      if (this.#status && this.#ended) {
        if (this.#status.code === status.OK) return undefined;
        throw this.failure();
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** Why the RPC is over, for whoever wanted more of it. */
  failure(): Error {
    if (this.#signal?.aborted) return reasonOf(this.#signal);
    if (!this.#status || this.#status.code === status.OK) {
      return new SidecallError("the turn is already over", { code: "FAILED_PRECONDITION" });
    }
    return errorFromRpc(this.#status);
  }
}
