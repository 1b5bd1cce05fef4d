import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { Client, SidecallError } from "../src/index.js";
import {
  type BatchEvent,
  type StreamBatchRequest,
  StreamBatchResponseSchema,
  type ToolCall,
} from "../src/v1.js";
import { type Behaviour, FakeSidecar, Refusal, resultOf } from "./support/fakeSidecar.js";

type Event = BatchEvent["event"];

let sidecar: FakeSidecar | undefined;
let client: Client | undefined;

afterEach(() => {
  client?.close();
  sidecar?.stop();
});

async function connect(streamBatch: Behaviour["streamBatch"]): Promise<Client> {
  sidecar = await FakeSidecar.start({ streamBatch });
  client = new Client({ endpoint: sidecar.endpoint });
  return client;
}

function accepted(): Event {
  return { case: "accepted", value: { receivedUnixNanos: 0n } } as Event;
}

/** Serves turns as a sidecar does: each call is answered with its arguments. */
function serveTurns(log: string[] = []): Behaviour["streamBatch"] {
  return (stream) => {
    const calls = new Map<number, ToolCall>();
    const tell = (...events: Event[]): void => {
      const each = events.map((event) => ({ event }) as BatchEvent);
      stream.write(create(StreamBatchResponseSchema, { events: each }));
    };
    stream.on("data", ({ message }: StreamBatchRequest) => {
      log.push(message.case ?? "unknown");
      if (message.case === "start") tell(accepted());
      if (message.case === "call" && message.value.call) {
        calls.set(message.value.index, message.value.call);
      }
      if (message.case !== "seal") return;
      const results = [...calls].map(
        ([index, call]) => ({ case: "result", value: { index, result: resultOf(call) } }) as Event,
      );
      const value = { callCount: calls.size, okCount: calls.size, sealed: true, requestId: "made" };
      tell(...results, { case: "summary", value } as Event);
    });
    stream.on("end", () => {
      log.push("half-closed");
      stream.end();
    });
  };
}

describe("a turn over StreamBatch", () => {
  it("gives events and results", async () => {
    const log: string[] = [];
    await using turn = await (await connect(serveTurns(log))).streamBatch();
    await turn.send(1, { name: "b", arguments: "[1]" });
    await turn.send(0, { name: "a" });
    await turn.seal();
    const types: string[] = [];
    for await (const event of turn) types.push(event.type);
    expect(types).toEqual(["accepted", "result", "result", "summary"]);
    const { results, requestId } = await turn.results();
    expect(results.map((result) => result.name)).toEqual(["a", "b"]);
    expect(requestId).toBe("made");
    expect(log).toEqual(["start", "call", "call", "seal", "half-closed"]);
  });

  it("loses nothing of thousands of results", async () => {
    await using turn = await (await connect(serveTurns())).streamBatch();
    for (let index = 0; index < 3000; index += 1) await turn.send(index, { name: `t${index}` });
    await turn.seal();
    const { results } = await turn.results();
    expect(results.map((result) => result.name)).toEqual(
      Array.from({ length: 3000 }, (_, index) => `t${index}`),
    );
  });

  it("loses no event of an RPC that fails, and may have started calls then", async () => {
    const refusal = new Refusal(status.UNAVAILABLE, "DRAINING");
    const there = await connect((stream) => {
      stream.once("data", () => {
        for (let count = 0; count < 1000; count += 1) {
          const event = { event: accepted() } as BatchEvent;
          stream.write(create(StreamBatchResponseSchema, { events: [event] }));
        }
        stream.emit("error", refusal.status);
      });
    });
    await using turn = await there.streamBatch();
    let count = 0;
    const error = await (async () => {
      for await (const _ of turn) count += 1;
    })().catch((thrown: unknown) => thrown);
    expect(count).toBe(1000);
    expect(error).toMatchObject({ code: "UNAVAILABLE", reason: "DRAINING", notStarted: false });
  });

  it("says why it is not accepted, and that nothing was started", async () => {
    const refusal = new Refusal(status.INTERNAL, "INTERNAL");
    const there = await connect((stream) => {
      stream.once("data", () => stream.emit("error", refusal.status));
    });
    const error: unknown = await there.streamBatch().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SidecallError);
    expect(error).toMatchObject({ code: "INTERNAL", notStarted: true });
  });

  it("takes each index once, and nothing after the seal", async () => {
    await using turn = await (await connect(serveTurns())).streamBatch();
    await turn.send(0, { name: "a" });
    await expect(turn.send(0, { name: "a" })).rejects.toThrow(RangeError);
    await turn.seal();
    await expect(turn.seal()).rejects.toThrow("already sealed");
    await expect(turn.send(1, { name: "a" })).rejects.toThrow(RangeError);
  });

  it("can be abandoned", async () => {
    const log: string[] = [];
    await using turn = await (await connect(serveTurns(log))).streamBatch();
    await turn.send(0, { name: "a" });
    turn.abandon();
    await expect(turn.cancel(0)).rejects.toThrow("abandoned");
    for await (const event of turn) expect(event.type).toBe("accepted");
    expect(log).toEqual(["start", "call", "half-closed"]);
  });

  it("is cancelled by its signal", async () => {
    const there = await connect(serveTurns());
    const aborting = new AbortController();
    await using turn = await there.streamBatch({ signal: aborting.signal });
    aborting.abort();
    await expect(turn.results()).rejects.toBe(aborting.signal.reason);
  });
});
