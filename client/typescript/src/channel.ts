/**
 * RPCs of the contract over @grpc/grpc-js, with AbortSignal and async iteration.
 *
 * grpc-js, because one library has to do unix sockets, mutual TLS, deadlines, cancellation,
 * trailing metadata, message limits, bidirectional streams, keepalive and reconnects with a
 * backoff that can be set, and its current releases run on all maintained versions of Node.js.
 * It knows neither AbortSignal nor promises: this file and `duplex.ts` are all that it takes.
 */

import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodUnary,
  MessageShape,
} from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type CallOptions, Client as GrpcClient, type ServiceError } from "@grpc/grpc-js";
import { onAbort, reasonOf } from "./aborting.js";
import type { Connection, RpcMetadata } from "./connection.js";
import { Duplex } from "./duplex.js";
import { errorFromRpc, SidecallError } from "./errors.js";

/** What may be said about one RPC. */
export interface RpcOptions {
  /** Milliseconds for the RPC; the sidecar is told. */
  timeoutMs?: number | undefined;
  /** Cancels the RPC, which then throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Sent beside the client's own metadata: `traceparent`, for example. */
  metadata?: RpcMetadata | undefined;
}

/** A connection to one sidecar, made when it is first used. */
export class Channel {
  readonly #connection: Connection;
  readonly #open = new Set<{ cancel(): void }>();
  #client: GrpcClient | undefined;
  #closed = false;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * Invokes a unary RPC.
   *
   * @throws SidecallError: It ended with a status other than OK.
   */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: RpcOptions & { waitForReady?: boolean } = {},
  ): Promise<MessageShape<O>> {
    options.signal?.throwIfAborted();
    const metadata = await this.#connection.metadata(options.metadata);
    if (options.waitForReady) metadata.setOptions({ waitForReady: true });
    const client = this.#running();
    const { encode, decode } = codecOf(method);
    return await new Promise<MessageShape<O>>((resolve, reject) => {
      options.signal?.throwIfAborted();
      const call = client.makeUnaryRequest(
        pathOf(method),
        encode,
        decode,
        request,
        metadata,
        callOptions(options),
        (error: ServiceError | null, response?: MessageShape<O>) => {
          stop();
          this.#open.delete(call);
          if (response && !error) resolve(response);
          else reject(this.#failure(error, options.signal));
        },
      );
      this.#open.add(call);
      const stop = onAbort(options.signal, () => {
        call.cancel();
      });
    });
  }

  /** Opens a bidirectional stream. Aborting the signal cancels it. */
  async duplex<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    options: RpcOptions = {},
  ): Promise<Duplex<MessageShape<I>, MessageShape<O>>> {
    options.signal?.throwIfAborted();
    const metadata = await this.#connection.metadata(options.metadata);
    options.signal?.throwIfAborted();
    const { encode, decode } = codecOf(method);
    const call = this.#running().makeBidiStreamRequest(
      pathOf(method),
      encode,
      decode,
      metadata,
      callOptions(options),
    );
    const stop = onAbort(options.signal, () => {
      call.cancel();
    });
    this.#open.add(call);
    return new Duplex<MessageShape<I>, MessageShape<O>>(call, options.signal, () => {
      stop();
      this.#open.delete(call);
    });
  }

  /** Closes the connection for good. RPCs in flight end with a SidecallError, CANCELLED. */
  close(): void {
    this.#closed = true;
    for (const call of this.#open) call.cancel();
    this.#client?.close();
    this.#client = undefined;
  }

  #failure(error: ServiceError | null, signal: AbortSignal | undefined): Error {
    if (signal?.aborted) return reasonOf(signal);
    if (this.#closed) return closedError();
    if (!error) return new SidecallError("no message came back", { code: "INTERNAL" });
    const failure = errorFromRpc(error, error);
    if (failure.code !== "DEADLINE_EXCEEDED" || failure.reason) return failure;
    const text = `no answer from ${this.#connection.target} in time`;
    return new SidecallError(text, { code: failure.code, cause: error });
  }

  #running(): GrpcClient {
    if (this.#closed) {
      throw new Error("the client is closed: make a new one");
    }
    const { target, credentials, channelOptions } = this.#connection;
    this.#client ??= new GrpcClient(target, credentials, channelOptions);
    return this.#client;
  }
}

function closedError(): SidecallError {
  return new SidecallError("the client was closed", { code: "CANCELLED" });
}

function callOptions(options: RpcOptions): CallOptions {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
}

function pathOf(method: DescMethodUnary | DescMethodBiDiStreaming): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function codecOf<I extends DescMessage, O extends DescMessage>(method: {
  input: I;
  output: O;
}): { encode: (m: MessageShape<I>) => Buffer; decode: (bytes: Buffer) => MessageShape<O> } {
  return {
    encode: (message) => {
      const bytes = toBinary(method.input, message);
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    },
    decode: (bytes) => fromBinary(method.output, bytes),
  };
}
