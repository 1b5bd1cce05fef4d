import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Client, type ClientOptions, SidecallError, tokenFromFile } from "../src/index.js";
import { Effects, ListToolsResponseSchema } from "../src/v1.js";
import { echo, FakeSidecar, Refusal } from "./support/fakeSidecar.js";
import { Deferred, until } from "./support/waiting.js";

const CALLS = [
  { name: "a", arguments: { x: 1 } },
  { name: "b", id: "2" },
];

let sidecar: FakeSidecar;
let client: Client;

function connect(options: ClientOptions = {}): Client {
  client = new Client({ endpoint: sidecar.endpoint, ...options });
  return client;
}

async function failureOf(waiting: Promise<unknown>): Promise<SidecallError> {
  const error: unknown = await waiting.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(SidecallError);
  return error as SidecallError;
}

/** Refuses the first calls so, then answers. */
function refuseFirst(...refusals: Refusal[]): void {
  sidecar.behaviour.executeBatch = (request) => {
    const refusal = refusals.shift();
    if (refusal) throw refusal;
    return echo(request);
  };
}

beforeEach(async () => {
  sidecar = await FakeSidecar.start();
});
afterEach(() => {
  client.close();
  sidecar.stop();
});

describe("executeBatch", () => {
  it("gives one result per call, in order", async () => {
    const { results } = await connect().executeBatch(CALLS);
    expect(results.map(({ name, callId, content, ok }) => [name, callId, content, ok])).toEqual([
      ["a", "", '{"x":1}', true],
      ["b", "2", "{}", true],
    ]);
  });

  it("sends every option", async () => {
    await connect().executeBatch(CALLS, {
      mode: "sequential",
      onFailure: "stop",
      maxConcurrency: 2,
      batchTimeoutMs: 1500,
      context: { tenant: "t" },
      requestId: "r",
      sessionId: "s",
      maxResponseBytes: 100,
      disableReferences: true,
      sentToInstance: "i",
    });
    expect(sidecar.requests[0]).toMatchObject({
      mode: 2,
      onFailure: 2,
      maxConcurrency: 2,
      timeout: { seconds: 1n, nanos: 500_000_000 },
      context: { tenant: "t" },
      requestId: "r",
      sessionId: "s",
      maxResponseBytes: 100n,
      disableReferences: true,
      sentToInstance: "i",
    });
  });

  it("refuses an answer with too few results", async () => {
    sidecar.behaviour.executeBatch = (request) => ({ ...echo(request), results: [] });
    expect((await failureOf(connect().executeBatch(CALLS))).code).toBe("INTERNAL");
  });

  it("throws the reason of the signal that is aborted", async () => {
    const cancelled = new Deferred<void>();
    sidecar.behaviour.executeBatch = async (request, call) => {
      call.on("cancelled", () => {
        cancelled.resolve();
      });
      await cancelled.promise;
      return echo(request);
    };
    const aborting = new AbortController();
    const waiting = connect().executeBatch(CALLS, { signal: aborting.signal });
    await until(() => sidecar.requests.length === 1);
    const reason = new Error("enough");
    aborting.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await cancelled.promise;
  });

  it("takes one signal for many batches, without a warning", async () => {
    const warnings: Error[] = [];
    const note = (warning: Error): void => {
      warnings.push(warning);
    };
    process.on("warning", note);
    const { signal } = new AbortController();
    connect();
    await Promise.all(Array.from({ length: 30 }, () => client.executeBatch(CALLS, { signal })));
    // Warnings are told in a later turn of the event loop.
    await new Promise(setImmediate);
    process.off("warning", note);
    expect(warnings).toEqual([]);
  });

  it("sends token, metadata of the client and metadata of the call", async () => {
    const folder = mkdtempSync(join(tmpdir(), "sidecall-"));
    const file = join(folder, "token");
    try {
      connect({ token: tokenFromFile(file), metadata: () => ({ tracestate: "a=b" }) });
      for (const token of ["one", "two"]) {
        writeFileSync(file, `${token}\n`);
        await client.executeBatch([], { metadata: { traceparent: "00-1" } });
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
    const sent = sidecar.metadata.map((each) => each.getMap());
    expect(sent.map((each) => each.authorization)).toEqual(["Bearer one", "Bearer two"]);
    expect(sent[0]).toMatchObject({ traceparent: "00-1", tracestate: "a=b" });
  });
});

describe("sending again", () => {
  it("happens where nothing was started", async () => {
    refuseFirst(new Refusal(status.UNAVAILABLE, "DRAINING"));
    const { results } = await connect().executeBatch(CALLS);
    expect(results).toHaveLength(2);
    expect(sidecar.requests.map((each) => each.sentToInstance)).toEqual(["", ""]);
  });

  it("waits for what the sidecar asks for, but not for long", async () => {
    refuseFirst(new Refusal(status.RESOURCE_EXHAUSTED, "REQUEST_MEMORY_FULL", 6000));
    const error = await failureOf(connect().executeBatch(CALLS));
    expect(error).toMatchObject({ retryAfterMs: 6000, notStarted: true });
    expect(error.message).toBe(
      "RESOURCE_EXHAUSTED/REQUEST_MEMORY_FULL: refused with REQUEST_MEMORY_FULL",
    );
  });

  it("does not happen where calls may have run", async () => {
    refuseFirst(new Refusal(status.UNAVAILABLE));
    const error = await failureOf(connect().executeBatch(CALLS));
    expect(error).toMatchObject({ code: "UNAVAILABLE", notStarted: false, sentToInstance: "" });
    expect(sidecar.requests).toHaveLength(1);
  });

  it("happens with a request id, and says where it was sent first", async () => {
    refuseFirst(new Refusal(status.UNAVAILABLE));
    await connect().executeBatch(CALLS, { requestId: "r" });
    expect(sidecar.requests.map((each) => each.sentToInstance)).toEqual(["", "instance-1"]);
  });

  it("ends with an error that says how to send it by hand", async () => {
    refuseFirst(new Refusal(status.UNAVAILABLE));
    const error = await failureOf(connect({ retries: 0 }).executeBatch(CALLS, { requestId: "r" }));
    expect(error).toMatchObject({ notStarted: false, sentToInstance: "instance-1" });
  });

  it("is certain that nothing was started where there is nobody", async () => {
    const nobody = new Client({ endpoint: "127.0.0.1:1", retries: 0 });
    const error = await failureOf(nobody.executeBatch(CALLS));
    expect(error).toMatchObject({ code: "UNAVAILABLE", notStarted: true });
    nobody.close();
  });
});

describe("listTools", () => {
  it("reads all pages, and begins anew where the tools change", async () => {
    const pages = ["first", "changed", "first", "last"];
    sidecar.behaviour.listTools = ({ pageToken }) => {
      const page = pages.shift();
      expect(pageToken).toBe(page === "first" ? "" : "more");
      if (page === "changed") throw new Refusal(status.ABORTED, "TOOLS_CHANGED");
      return create(ListToolsResponseSchema, {
        tools: [{ name: page ?? "", inputSchema: '{"type":"object"}', effects: Effects.READ_ONLY }],
        nextPageToken: page === "first" ? "more" : "",
        revision: "7",
      });
    };
    const tools = await connect().listTools();
    expect(tools.map(({ name, effects }) => [name, effects])).toEqual([
      ["first", "read_only"],
      ["last", "read_only"],
    ]);
    expect(tools.revision).toBe("7");
  });
});

describe("the connection", () => {
  it("goes over a unix socket", async () => {
    const folder = mkdtempSync(join(tmpdir(), "sidecall-"));
    try {
      await using here = await FakeSidecar.start({}, `unix:${folder}/s`);
      await using there = new Client({ endpoint: here.endpoint });
      expect((await there.getCapabilities()).instanceId).toBe("instance-1");
    } finally {
      rmSync(folder, { recursive: true });
    }
    connect();
  });

  it("waits until the sidecar serves", async () => {
    sidecar.stop();
    const waiting = connect().waitUntilReady();
    await sidecar.restart();
    expect((await waiting).instanceId).toBe("instance-1");
  });

  it("cannot be used once it is closed", async () => {
    connect().close();
    await expect(client.getCapabilities()).rejects.toThrow("closed");
  });

  it("ends RPCs in flight when it is closed", async () => {
    sidecar.behaviour.executeBatch = async () => await new Promise(() => undefined);
    const waiting = failureOf(connect().executeBatch(CALLS));
    await until(() => sidecar.requests.length === 1);
    client.close();
    expect((await waiting).message).toBe("CANCELLED: the client was closed");
  });
});
