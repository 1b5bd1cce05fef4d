import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ChatLoop, type ChatOptions, ModelError } from "../src/chat/index.js";
import { PENDING } from "../src/chat/text.js";
import { toolUses } from "../src/chat/wrapped.js";
import { Client } from "../src/index.js";
import { ListToolsResponseSchema } from "../src/v1.js";
import { echo, FakeSidecar, Refusal } from "./support/fakeSidecar.js";

type Json = Record<string, unknown>;
type Answer = Json | AsyncIterable<Json>;

let sidecar: FakeSidecar;
let client: Client;
let asked: Json[];

beforeEach(async () => {
  asked = [];
  sidecar = await FakeSidecar.start({
    listTools: () =>
      create(ListToolsResponseSchema, { tools: [{ name: "note", inputSchema: "{}" }] }),
  });
  client = new Client({ endpoint: sidecar.endpoint });
});
afterEach(() => {
  client.close();
  sidecar.stop();
});

function chat(answers: (Answer | Error)[], options: Partial<ChatOptions> = {}): ChatLoop {
  const answer = (request: Json): Promise<Answer> => {
    asked.push(structuredClone(request));
    const next = answers.shift() ?? new Error("nobody wrote this answer");
    return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
  };
  const openai = { chat: { completions: { create: answer } } } as unknown as OpenAI;
  return new ChatLoop({ client, openai, model: "m", ...options });
}

function completion(message: Json, finish = "stop"): Json {
  return { choices: [{ index: 0, message, finish_reason: finish }] };
}

const CALLING = completion(
  {
    role: "assistant",
    content: null,
    tool_calls: [{ id: "a", type: "function", function: { name: "note", arguments: '{"x":1}' } }],
  },
  "tool_calls",
);
const DONE = completion({ role: "assistant", content: "Done." });

async function* chunks(...deltas: Json[]): AsyncGenerator<Json> {
  for (const delta of deltas) {
    await Promise.resolve();
    yield { choices: [{ index: 0, delta, finish_reason: null }] };
  }
}

describe("a chat", () => {
  it("runs calls until the model answers", async () => {
    const loop = chat([CALLING, DONE]);
    const result = await loop.run("Go.");
    expect(result).toMatchObject({ text: "Done.", stoppedReason: "completed" });
    expect(loop.history).toEqual([
      { role: "user", content: "Go." },
      {
        role: "assistant",
        content: null,
        tool_calls: [
          { id: "a", type: "function", function: { name: "note", arguments: '{"x":1}' } },
        ],
      },
      { role: "tool", tool_call_id: "a", content: '{"x":1}' },
      { role: "assistant", content: "Done." },
    ]);
    expect(asked[1]?.messages).toEqual(loop.history.slice(0, 3));
  });

  it("gives its events to iterate over", async () => {
    const run = chat([CALLING, DONE]).stream("Go.");
    const types: string[] = [];
    for await (const event of run) types.push(event.type);
    expect(types).toEqual([
      ...["turn_started", "call_ready", "call_finished", "turn_finished"],
      ...["turn_started", "text_delta", "turn_finished"],
    ]);
    expect((await run.result).text).toBe("Done.");
  });

  it("is cancelled when its iteration is left", async () => {
    const loop = chat([CALLING, DONE]);
    const run = loop.stream("Go.");
    for await (const event of run) if (event.type === "call_ready") break;
    await expect(run.result).rejects.toThrow("aborted");
    expect(loop.history.at(-1)).toEqual({ role: "tool", tool_call_id: "a", content: PENDING });
  });

  it("throws the signal's reason, and reports no error then", async () => {
    const aborting = new AbortController();
    const reason = new Error("enough");
    const types: string[] = [];
    const loop = chat([CALLING], {
      onEvent: (event) => {
        types.push(event.type);
        if (event.type === "call_ready") aborting.abort(reason);
      },
    });
    await expect(loop.run("Go.", { signal: aborting.signal })).rejects.toBe(reason);
    expect(types).toEqual(["turn_started", "call_ready"]);
    expect(sidecar.requests).toEqual([]);
  });

  it("does not wait for a hook when it is cancelled", async () => {
    const aborting = new AbortController();
    const reason = new Error("enough");
    const loop = chat([CALLING], {
      onEvent: (event) => {
        if (event.type === "turn_started")
          setImmediate(() => {
            aborting.abort(reason);
          });
        return new Promise(() => undefined);
      },
    });
    await expect(loop.run("Go.", { signal: aborting.signal })).rejects.toBe(reason);
  });

  it("answers all calls where the sidecar fails, and throws", async () => {
    sidecar.behaviour.executeBatch = () => {
      throw new Refusal(status.UNAVAILABLE);
    };
    const loop = chat([CALLING]);
    await expect(loop.run("Go.")).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(loop.history.at(-1)?.content).toMatch(/^UNKNOWN: the connection to the tools failed/);
  });

  it("says that the model's stream broke off, and keeps nothing of it", async () => {
    const broken = (async function* () {
      yield* chunks({ role: "assistant", content: "Let" });
      throw new TypeError("terminated");
    })();
    const loop = chat([broken], { stream: true });
    const error: unknown = await loop.run("Go.").catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ModelError);
    expect((error as ModelError).cause).toBeInstanceOf(TypeError);
    expect(loop.history).toEqual([{ role: "user", content: "Go." }]);
  });

  it("passes on what the provider's library throws", async () => {
    const error = new Error("no such model");
    await expect(chat([error]).run("Go.")).rejects.toBe(error);
  });

  it("ends with what a hook throws", async () => {
    const error = new Error("hook");
    const types: string[] = [];
    const loop = chat([DONE], {
      onEvent: (event) => {
        types.push(event.type);
        throw error;
      },
    });
    await expect(loop.run("Go.")).rejects.toBe(error);
    expect(types).toEqual(["turn_started"]);
  });

  it("sends metadata of the run", async () => {
    await chat([CALLING, DONE]).run("Go.", { metadata: { traceparent: "00-1" } });
    expect(sidecar.metadata[0]?.getMap().traceparent).toBe("00-1");
  });

  it("runs one conversation at a time", async () => {
    const loop = chat([CALLING, DONE]);
    const first = loop.run("Go.");
    await expect(loop.run("And?")).rejects.toThrow("already");
    await first;
  });

  it.each([
    [{ maxTurns: 0 }, "maxTurns"],
    [{ api: "other" as never }, "api is"],
    [{ requestOptions: { messages: [] } }, "requestOptions may not hold messages"],
    [{ batchOptions: { requestId: "r" } as never }, "batchOptions may not hold requestId"],
    [{ batchTimeoutMs: -1 }, "batchTimeoutMs"],
  ])("refuses %j", (options, text) => {
    expect(() => chat([], options)).toThrow(text);
  });

  it("sends a turn again under one request id where it may", async () => {
    let count = 0;
    sidecar.behaviour.executeBatch = (request) => {
      count += 1;
      if (count === 1) throw new Refusal(status.UNAVAILABLE);
      return echo(request);
    };
    await chat([CALLING, DONE], { resend: true }).run("Go.");
    const [first, second] = sidecar.requests;
    expect(first?.requestId).not.toBe("");
    expect(second).toMatchObject({ requestId: first?.requestId, sentToInstance: "instance-1" });
  });
});

describe("wrapped calls", () => {
  it("keep their arguments as the model wrote them", () => {
    const text = `{"tool_uses": [
      {"recipient_name": "functions.a", "parameters": {"n": 12345678901234567890, "s": "],\\"}"}},
      {"recipient_name": "b", "parameters": ""},
      {"parameters": {}}, 7, {"recipient_name": "c", "parameters": "{\\"x\\": 1}"}]}`;
    expect(toolUses(text)?.map((use) => [use.name, use.arguments, use.refusal !== ""])).toEqual([
      ["functions.a", '{"n": 12345678901234567890, "s": "],\\"}"}', false],
      ["b", "{}", false],
      ["", "", true],
      ["", "", true],
      ["c", '{"x": 1}', false],
    ]);
  });

  it.each(["", "[]", '{"tool_uses": 1}', '{"tool_uses": [}'])("cannot be read: %s", (text) => {
    expect(toolUses(text)).toBeUndefined();
  });
});
