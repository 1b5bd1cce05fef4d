/** The sidecar's side of tool hosts, strict about what hosts may send. */

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  type AttachRequest,
  type AttachResponse,
  AttachResponseSchema,
  type HostAttach,
  type HostCallSchema,
  type HostResult,
} from "../../src/v1.js";
import type { Behaviour, Stream } from "./fakeSidecar.js";
import { Inbox } from "./waiting.js";

/** What a sidecar tells a host. */
export interface AttachedSettings {
  heartbeatMs?: number;
  silenceMs?: number;
  maxMessageBytes?: number;
}

/** One host that attached. */
export class FakeAttachment {
  readonly results = new Inbox<HostResult>();
  readonly reports = new Inbox<AttachRequest["message"]>();
  heartbeats = 0;
  isDraining = false;
  isHalfClosed = false;
  #attempts = 0n;

  constructor(
    readonly offer: HostAttach,
    private readonly stream: Stream<AttachRequest, AttachResponse>,
  ) {}

  /** Sends a message. */
  send(message: MessageInitShape<typeof AttachResponseSchema>["message"]): void {
    this.stream.write(
      create(AttachResponseSchema, { message } as MessageInitShape<typeof AttachResponseSchema>),
    );
  }

  /** Sends a call and returns its attempt id. */
  call(
    name: string,
    given: object = {},
    more: MessageInitShape<typeof HostCallSchema> = {},
  ): bigint {
    this.#attempts += 1n;
    const value = { attemptId: this.#attempts, name, arguments: JSON.stringify(given), ...more };
    this.send({ case: "call", value });
    return this.#attempts;
  }

  /** Ends the stream as a whole. */
  end(): void {
    this.stream.end();
  }

  /** Takes what the host sends. */
  take({ message }: AttachRequest): void {
    if (message.case === "result") this.results.put(message.value);
    else if (message.case === "heartbeat") this.heartbeats += 1;
    else if (message.case === "drain") this.isDraining = true;
    else this.reports.put(message);
  }
}

/** Accepts hosts and puts them into an inbox. */
export function acceptInto(
  hosts: Inbox<FakeAttachment>,
  settings: AttachedSettings = {},
): Behaviour["attach"] {
  return (stream) => {
    let attachment: FakeAttachment | undefined;
    stream.on("data", (request: AttachRequest) => {
      if (attachment) {
        attachment.take(request);
        return;
      }
      if (request.message.case !== "attach") throw new Error("the first message must be attach");
      attachment = new FakeAttachment(request.message.value, stream);
      const { heartbeatMs = 10_000, silenceMs, maxMessageBytes = 1 << 24 } = settings;
      attachment.send({
        case: "attached",
        value: {
          hostId: "h",
          instanceId: "i",
          heartbeatInterval: durationFromMs(heartbeatMs),
          ...(silenceMs !== undefined && { silenceTimeout: durationFromMs(silenceMs) }),
          maxMessageBytes: BigInt(maxMessageBytes),
        },
      });
      hosts.put(attachment);
    });
    stream.on("end", () => {
      if (attachment) attachment.isHalfClosed = true;
      stream.end();
    });
  };
}
