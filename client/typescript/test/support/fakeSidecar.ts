/** A sidecar in the test's own process that does what the test says. */

import { create, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import * as v1 from "../../src/v1.js";

export type UnaryCall<I> = grpc.ServerUnaryCall<I, never>;
export type Stream<I, O> = grpc.ServerDuplexStream<I, O>;

/** What the services do; a test replaces what it needs. */
export interface Behaviour {
  executeBatch: (
    request: v1.ExecuteBatchRequest,
    call: UnaryCall<v1.ExecuteBatchRequest>,
  ) => v1.ExecuteBatchResponse | Promise<v1.ExecuteBatchResponse>;
  listTools: (request: v1.ListToolsRequest) => v1.ListToolsResponse;
  streamBatch: (stream: Stream<v1.StreamBatchRequest, v1.StreamBatchResponse>) => void;
  attach: (stream: Stream<v1.AttachRequest, v1.AttachResponse>) => void;
}

/** A status to refuse with. */
export class Refusal extends Error {
  constructor(
    readonly code: grpc.status,
    readonly reason = "",
    readonly retryAfterMs?: number,
  ) {
    super(`refused with ${reason}`);
  }

  /** How gRPC sends it. */
  get status(): { code: grpc.status; details: string; metadata: grpc.Metadata } {
    const metadata = new grpc.Metadata();
    const { code, message, reason, retryAfterMs } = this;
    if (reason) {
      const info = create(v1.ErrorInfoSchema, { domain: "sidecall.dev", reason });
      const details = [anyPack(v1.ErrorInfoSchema, info)];
      if (retryAfterMs !== undefined) {
        const retryDelay = durationFromMs(retryAfterMs);
        details.push(anyPack(v1.RetryInfoSchema, create(v1.RetryInfoSchema, { retryDelay })));
      }
      const status = create(v1.StatusSchema, { code, message, details });
      metadata.set("grpc-status-details-bin", Buffer.from(toBinary(v1.StatusSchema, status)));
    }
    return { code, details: message, metadata };
  }
}

/** Answers each call with its own arguments. */
export function echo(request: v1.ExecuteBatchRequest): v1.ExecuteBatchResponse {
  return create(v1.ExecuteBatchResponseSchema, {
    results: request.calls.map((call) => resultOf(call)),
    requestId: request.requestId,
  });
}

/** The result of a call that returns its arguments. */
export function resultOf(call: v1.ToolCall): v1.ToolResult {
  return create(v1.ToolResultSchema, {
    callId: call.id,
    name: call.name,
    content: call.arguments || "{}",
    executionState: v1.ExecutionState.COMPLETED,
    attempts: 1,
  });
}

/** Serves until it is stopped. */
export class FakeSidecar implements AsyncDisposable {
  readonly metadata: grpc.Metadata[] = [];
  readonly requests: v1.ExecuteBatchRequest[] = [];
  instanceId = "instance-1";
  endpoint = "";
  behaviour: Behaviour = {
    executeBatch: echo,
    listTools: () => create(v1.ListToolsResponseSchema),
    streamBatch: (stream) => stream.end(),
    attach: (stream) => stream.end(),
  };
  #server = new grpc.Server();

  /** Starts one on loopback, or at an address. */
  static async start(
    behaviour: Partial<Behaviour> = {},
    address = "127.0.0.1:0",
  ): Promise<FakeSidecar> {
    const sidecar = new FakeSidecar();
    sidecar.behaviour = { ...sidecar.behaviour, ...behaviour };
    await sidecar.#listen(address);
    return sidecar;
  }

  /** Ends at once; RPCs break. */
  stop(): void {
    this.#server.forceShutdown();
  }

  /** Serves again where it was. */
  async restart(): Promise<void> {
    this.#server = new grpc.Server();
    await this.#listen(this.endpoint);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    return Promise.resolve();
  }

  async #listen(address: string): Promise<void> {
    const { getCapabilities, listTools, executeBatch, streamBatch } = v1.ToolService.method;
    const { attach } = v1.ToolHostService.method;
    this.#server.addService(definitionOf([getCapabilities, listTools, executeBatch, streamBatch]), {
      getCapabilities: this.#unary(() =>
        create(v1.GetCapabilitiesResponseSchema, { instanceId: this.instanceId }),
      ),
      listTools: this.#unary((request: v1.ListToolsRequest) => this.behaviour.listTools(request)),
      executeBatch: this.#unary(
        (request: v1.ExecuteBatchRequest, call: UnaryCall<v1.ExecuteBatchRequest>) => {
          this.metadata.push(call.metadata);
          this.requests.push(request);
          return this.behaviour.executeBatch(request, call);
        },
      ),
      streamBatch: (stream: Stream<v1.StreamBatchRequest, v1.StreamBatchResponse>) => {
        stream.on("error", () => undefined);
        this.behaviour.streamBatch(stream);
      },
    });
    this.#server.addService(definitionOf([attach]), {
      attach: (stream: Stream<v1.AttachRequest, v1.AttachResponse>) => {
        stream.on("error", () => undefined);
        this.metadata.push(stream.metadata);
        this.behaviour.attach(stream);
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
    this.endpoint = address.startsWith("unix:") ? address : `127.0.0.1:${port}`;
  }

  #unary<I, O>(
    answer: (request: I, call: UnaryCall<I>) => O | Promise<O>,
  ): grpc.handleUnaryCall<I, O> {
    return (call, callback) => {
      void (async () => await answer(call.request, call as unknown as UnaryCall<I>))().then(
        (response) => {
          callback(null, response);
        },
        (error: unknown) => {
          callback(error instanceof Refusal ? error.status : (error as grpc.ServiceError));
        },
      );
    };
  }
}

function definitionOf(methods: readonly DescMethod[]): grpc.ServiceDefinition {
  return Object.fromEntries(
    methods.map((method) => {
      const streams = method.methodKind === "bidi_streaming";
      return [
        method.localName,
        {
          path: `/${method.parent.typeName}/${method.name}`,
          requestStream: streams,
          responseStream: streams,
          requestSerialize: (message: Message) => Buffer.from(toBinary(method.input, message)),
          requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
          responseSerialize: (message: Message) => Buffer.from(toBinary(method.output, message)),
          responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
        },
      ];
    }),
  );
}
