import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import {
  type HostedTool,
  image,
  link,
  tool,
  ToolError,
  ToolHost,
  type ToolHostOptions,
} from "../src/index.js";
import type { ToolContext } from "../src/index.js";
import { ExecutionState } from "../src/v1.js";
import {
  acceptInto,
  type AttachedSettings,
  type FakeAttachment,
} from "./support/fakeAttachment.js";
import { FakeSidecar, Refusal } from "./support/fakeSidecar.js";
import { Deferred, Inbox, until } from "./support/waiting.js";

const PNG = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

const logged: string[] = [];
const logger = {
  warn: (text: string) => logged.push(text),
  error: (text: string) => logged.push(text),
};
let sidecar: FakeSidecar;
let host: ToolHost;
let hosts: Inbox<FakeAttachment>;

afterEach(async () => {
  await host.close().catch(() => undefined);
  sidecar.stop();
  logged.length = 0;
});

async function attach(
  tools: HostedTool[],
  settings: AttachedSettings = {},
  options: Partial<ToolHostOptions> = {},
): Promise<FakeAttachment> {
  hosts = new Inbox();
  sidecar = await FakeSidecar.start({ attach: acceptInto(hosts, settings) });
  host = new ToolHost({
    endpoint: sidecar.endpoint,
    tools,
    logger,
    drainTimeoutMs: 5000,
    ...options,
  });
  host.start();
  await host.attached();
  return await hosts.next();
}

function make(
  execute: (given: Record<string, unknown>, context: ToolContext) => unknown,
): HostedTool {
  return tool({ name: "t", description: "Does it.", inputSchema: { type: "object" }, execute });
}

/** Waits until its call should end. */
async function untilAborted(_given: unknown, { signal }: ToolContext): Promise<never> {
  return await new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => {
      reject(signal.reason as Error);
    });
  });
}

describe("what a host offers", () => {
  it("says what a tool declares", async () => {
    const declared = tool({
      name: "pay",
      description: "Pays.",
      inputSchema: { type: "object", properties: { amount: { type: "integer" } } },
      outputSchema: { type: "string" },
      effects: "idempotent",
      limits: {
        maxConcurrency: 2,
        maxQueue: 3,
        timeoutMs: 1500,
        queueTimeoutMs: 200,
        rate: { count: 10, periodMs: 1000, burst: 20 },
        groups: ["bank"],
        maxAttempts: 4,
        cacheTtlMs: 60_000,
        maxResultBytes: 5,
      },
      requiresApproval: true,
      lane: "account:{account}",
      execute: () => "paid",
    });
    const { offer } = await attach([declared], {}, { name: "bank", maxConcurrency: 3 });
    expect(offer).toMatchObject({
      hostName: "bank",
      maxConcurrency: 3,
      maxMessageBytes: 1n << 24n,
    });
    expect(offer.userAgent).toMatch(/^sidecall-typescript\/\d+\.\d+\.\d+$/);
    expect(offer.tools[0]).toMatchObject({
      name: "pay",
      effects: 2,
      outputSchema: '{"type":"string"}',
      requiresApproval: true,
      lane: "account:{account}",
      limits: {
        maxConcurrency: 2,
        maxQueue: 3,
        timeout: { seconds: 1n, nanos: 500_000_000 },
        queueTimeout: { seconds: 0n, nanos: 200_000_000 },
        rate: { count: 10n, burst: 20n, period: { seconds: 1n } },
        groups: ["bank"],
        maxAttempts: 4,
        cacheTtl: { seconds: 60n },
        maxResultBytes: 5n,
      },
    });
  });

  it("ends for good where the sidecar refuses it", async () => {
    sidecar = await FakeSidecar.start({
      attach: (stream) => {
        stream.once("data", () =>
          stream.emit("error", new Refusal(status.ALREADY_EXISTS, "TOOL_NAME_TAKEN").status),
        );
      },
    });
    host = new ToolHost({ endpoint: sidecar.endpoint, tools: [make(() => "")], logger });
    await expect(host.serve()).rejects.toMatchObject({ reason: "TOOL_NAME_TAKEN" });
    expect(logged).toHaveLength(1);
  });

  it("needs tools with names of their own", async () => {
    await attach([make(() => "")]);
    expect(() => new ToolHost({ tools: [] })).toThrow("at least one");
    expect(() => new ToolHost({ tools: [make(() => ""), make(() => "")] })).toThrow("one name");
  });
});

describe("what a call comes to", () => {
  it.each([
    ["text", { case: "text", value: "text" }],
    [undefined, { case: "json", value: "null" }],
    [
      { sum: 2n ** 60n, none: undefined },
      { case: "json", value: '{"sum":1152921504606846976}' },
    ],
    [["a", 1, NaN], { case: "json", value: '["a",1,"NaN"]' }],
    [new Map([["k", new Set([1])]]), { case: "json", value: '{"k":[1]}' }],
  ])("is the value %s", async (value, expected) => {
    const attachment = await attach([make(() => value)]);
    const attemptId = attachment.call("t");
    const result = await attachment.results.next();
    expect(result.value).toEqual(expected);
    expect(result).toMatchObject({ attemptId, executionState: ExecutionState.COMPLETED });
    expect(result.status).toBeUndefined();
  });

  it("is parts where there are images or links", async () => {
    const attachment = await attach([
      make(() => ["two", image(PNG, { name: "a.png" }), link("https://example.com/a"), { n: 1 }]),
    ]);
    attachment.call("t");
    const { value } = await attachment.results.next();
    const parts = value.case === "parts" ? value.value.parts : [];
    expect(parts.map(({ part }) => part.case)).toEqual(["text", "blob", "link", "json"]);
    expect(parts[1]?.part.value).toMatchObject({ mediaType: "image/png", name: "a.png" });
  });

  it("is an error that is meant for the model", async () => {
    const attachment = await attach([
      make(() => {
        throw new ToolError("No such city.", { code: "NOT_FOUND", retryAfterMs: 1500 });
      }),
    ]);
    attachment.call("t");
    const result = await attachment.results.next();
    expect(result.status).toMatchObject({ code: status.NOT_FOUND, message: "No such city." });
    expect(result.retryAfter && durationMs(result.retryAfter)).toBe(1500);
  });

  it("tells nothing of another error", async () => {
    const attachment = await attach([
      make(() => {
        throw new Error("password is 1234");
      }),
    ]);
    attachment.call("t");
    const result = await attachment.results.next();
    expect(result.status?.code).toBe(status.UNKNOWN);
    expect(result.status?.message).toMatch(
      /^Tool 't' failed with an internal error \(id \w{8}\)\.$/,
    );
    expect(logged[0]).toContain(/id (\w+)/.exec(result.status?.message ?? "")?.[1]);
  });

  it("is a refusal where the schema of a library refuses the arguments", async () => {
    const attachment = await attach([
      tool({
        name: "t",
        description: "Does it.",
        inputSchema: z.object({
          city: z
            .string()
            .min(2)
            .transform((city) => city.toUpperCase()),
        }),
        execute: ({ city }) => city,
      }),
    ]);
    attachment.call("t", { city: "Rome" });
    expect((await attachment.results.next()).value).toEqual({ case: "text", value: "ROME" });
    attachment.call("t", { city: "R" });
    const result = await attachment.results.next();
    expect(result.status?.code).toBe(status.INVALID_ARGUMENT);
    expect(result.status?.message).toContain("\n- /city: ");
    expect(result.executionState).toBe(ExecutionState.NOT_STARTED);
  });

  it("is a refusal where the result is larger than the sidecar takes", async () => {
    const attachment = await attach([make(() => "x".repeat(2000))], { maxMessageBytes: 1000 });
    attachment.call("t");
    const result = await attachment.results.next();
    expect(result.status?.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(result.executionState).toBe(ExecutionState.COMPLETED);
  });

  it("comes with progress and partial output, also of what a generator yields", async () => {
    const attachment = await attach([
      make(async function* (_given, context) {
        context.progress(1, 2, "half");
        yield "a";
        await Promise.resolve();
        yield "b";
      }),
    ]);
    const attemptId = attachment.call("t");
    expect((await attachment.results.next()).value).toEqual({ case: "text", value: "ab" });
    const reports = [await attachment.reports.next(), await attachment.reports.next()];
    expect(reports).toMatchObject([
      { case: "progress", value: { attemptId, progress: 1, total: 2, message: "half" } },
      { case: "partialOutput", value: { attemptId, text: "a" } },
    ]);
  });

  it("knows its call", async () => {
    const attachment = await attach([
      make((_given, { callId, attempt, context, idempotencyKey, traceparent, argumentsText }) => ({
        ...{ callId, attempt, context, idempotencyKey, traceparent, argumentsText },
      })),
    ]);
    const facts = {
      callId: "c",
      attempt: 2,
      context: { user: "u" },
      idempotencyKey: "k",
      traceparent: "00-1",
    };
    attachment.call("t", {}, facts);
    const { value } = await attachment.results.next();
    expect(JSON.parse(value.value as string)).toEqual({ ...facts, argumentsText: "{}" });
  });
});

describe("a call that should end", () => {
  it("is told so when it is cancelled", async () => {
    const attachment = await attach([make(untilAborted)]);
    const attemptId = attachment.call("t");
    attachment.send({ case: "cancel", value: { attemptId } });
    const result = await attachment.results.next();
    expect(result.status?.code).toBe(status.CANCELLED);
  });

  it("is told so when its time is over", async () => {
    const attachment = await attach([make(untilAborted)]);
    attachment.call("t", {}, { timeout: durationFromMs(20) });
    const result = await attachment.results.next();
    expect(result.status?.code).toBe(status.DEADLINE_EXCEEDED);
    expect(result.executionState).toBe(ExecutionState.UNKNOWN);
  });

  it("keeps its slot until its function ends", async () => {
    const released = new Deferred<string>();
    const started: string[] = [];
    const deaf = make(async (given) => {
      started.push(String(given.name));
      return given.name === "first" ? await released.promise : "second";
    });
    const attachment = await attach([deaf], {}, { maxConcurrency: 1 });
    const first = attachment.call("t", { name: "first" });
    attachment.send({ case: "cancel", value: { attemptId: first } });
    const second = attachment.call("t", { name: "second" });
    await until(() => started.length === 1);
    released.resolve("late");
    const ends = [await attachment.results.next(), await attachment.results.next()];
    expect(ends.map((result) => result.attemptId)).toEqual([first, second]);
    expect(started).toEqual(["first", "second"]);
  });
});

describe("the attachment", () => {
  it("sends heartbeats while there is nothing to say", async () => {
    const attachment = await attach([make(() => "")], { heartbeatMs: 20 });
    await until(() => attachment.heartbeats >= 2);
  });

  it("is made again when the sidecar is silent", async () => {
    await attach([make(() => "")], { silenceMs: 50 });
    await hosts.next();
    expect(logged[0]).toContain("trying again");
  });

  it("is made again after a restart, and calls of the old one are aborted", async () => {
    const started = new Deferred<void>();
    const aborted = new Deferred<void>();
    const attachment = await attach([
      make(async (given, context) => {
        context.signal.addEventListener("abort", () => {
          aborted.resolve();
        });
        started.resolve();
        return given.wait ? await untilAborted(given, context) : "here";
      }),
    ]);
    attachment.call("t", { wait: true });
    await started.promise;
    sidecar.stop();
    await aborted.promise;
    await sidecar.restart();
    const again = await hosts.next();
    again.call("t");
    expect((await again.results.next()).value).toEqual({ case: "text", value: "here" });
  });

  it("is made again when the sidecar drains, after the calls in hand", async () => {
    const released = new Deferred<string>();
    const attachment = await attach([make(async () => await released.promise)]);
    attachment.call("t");
    attachment.send({ case: "draining", value: {} });
    released.resolve("done");
    expect((await attachment.results.next()).value).toEqual({ case: "text", value: "done" });
    await until(() => attachment.isHalfClosed);
    await hosts.next();
  });

  it("drains when it is closed: calls in hand are answered, then it half-closes", async () => {
    const started = new Deferred<void>();
    const released = new Deferred<string>();
    const attachment = await attach([
      make(async () => {
        started.resolve();
        return await released.promise;
      }),
    ]);
    attachment.call("t");
    await started.promise;
    const closing = host.close();
    await until(() => attachment.isDraining);
    expect(attachment.isHalfClosed).toBe(false);
    released.resolve("done");
    expect((await attachment.results.next()).value).toEqual({ case: "text", value: "done" });
    await closing;
    expect(attachment.isHalfClosed).toBe(true);
    expect(host.isAttached).toBe(false);
  });

  it("answers for functions that do not end in time", async () => {
    const started = new Deferred<void>();
    const deaf = make(async (given, context) => {
      started.resolve();
      return await untilAborted(given, context);
    });
    const attachment = await attach([deaf], {}, { drainTimeoutMs: 150 });
    attachment.call("t");
    await started.promise;
    await host.close();
    const result = await attachment.results.next();
    expect(result.executionState).toBe(ExecutionState.UNKNOWN);
    expect(logged[0]).toContain("abandoned: t");
  });

  it("serves until the signal is aborted", async () => {
    hosts = new Inbox();
    sidecar = await FakeSidecar.start({ attach: acceptInto(hosts) });
    host = new ToolHost({ endpoint: sidecar.endpoint, tools: [make(() => "")], logger });
    const stopping = new AbortController();
    const serving = host.serve({ signal: stopping.signal });
    const attachment = await hosts.next();
    await until(() => host.isAttached);
    stopping.abort();
    await serving;
    expect(attachment.isDraining).toBe(true);
  });
});
