import { describe, expect, it } from "vitest";
import {
  approve,
  pendingApprovals,
  reject,
  toChatCompletionsMessages,
  toChatCompletionsTools,
  ToolNames,
  type ToolResult,
  toResponsesOutputs,
  toResponsesTools,
} from "../src/index.js";
import { resultOf as plainResult } from "../src/results.js";
import { makeToolCall, toToolCall } from "../src/toolCalls.js";
import { escapeSurrogates, quoted } from "../src/texts.js";
import { resultOf } from "./support/fakeSidecar.js";

const PNG = Uint8Array.from([1, 2, 3]);

function result(more: Partial<ToolResult> = {}): ToolResult {
  return { ...plainResult(resultOf(makeToolCall({ name: "draw", id: "a" }))), ...more };
}

describe("ToolNames", () => {
  it("maps names that providers refuse, there and back", () => {
    const long = `files.${"x".repeat(80)}`;
    const names = new ToolNames(["ok", "a.b", "c d", "c.d", "wörter", "😀", "a_b", long]);
    expect(names.toProvider("ok")).toBe("ok");
    expect(names.toProvider("wörter")).toBe("w_rter");
    expect(names.toProvider("😀")).toBe("_");
    // Computed with the Python client.
    expect(names.toProvider("a.b")).toBe("a_b_2e7336dc");
    expect(names.toProvider("c d")).toMatch(/^c_d_[0-9a-f]{8}$/);
    expect(names.toProvider(long)).toHaveLength(64);
    for (const provider of names.providerNames) {
      expect(names.toProvider(names.toTool(provider))).toBe(provider);
    }
  });

  it("finds what a model means", () => {
    const names = new ToolNames(["a.b", "plain"]);
    expect(names.toTool("functions.plain")).toBe("plain");
    expect(names.toTool("functions.a_b")).toBe("a.b");
    expect(names.toTool("nobody")).toBe("nobody");
    expect(() => names.toProvider("nobody")).toThrow(RangeError);
  });
});

describe("formats of tools", () => {
  const tools = [{ name: "a.b", description: "d", inputSchema: { $schema: "x", required: ["c"] } }];
  const parameters = { type: "object", properties: {}, required: ["c"] };

  it("are those of Chat Completions", () => {
    expect(toChatCompletionsTools(tools)).toEqual([
      { type: "function", function: { name: "a_b", description: "d", parameters } },
    ]);
  });

  it("are those of Responses", () => {
    expect(toResponsesTools(tools)).toEqual([
      { type: "function", name: "a_b", description: "d", parameters, strict: false },
    ]);
  });
});

describe("formats of results", () => {
  const drawn = result({
    content: "a dot",
    parts: [{ type: "blob", mediaType: "image/png", data: PNG, name: "dot.png" }],
  });

  it("hold images beside text", () => {
    expect(toResponsesOutputs([drawn])).toEqual([
      {
        type: "function_call_output",
        call_id: "a",
        output: [
          { type: "input_text", text: "a dot" },
          { type: "input_text", text: "[image/png, 3 bytes: dot.png]:" },
          { type: "input_image", image_url: "data:image/png;base64,AQID" },
        ],
      },
    ]);
    const [answer, attached] = toChatCompletionsMessages([drawn]);
    expect(answer).toEqual({ role: "tool", tool_call_id: "a", content: "a dot" });
    expect(attached?.content).toHaveLength(3);
  });

  it("are text alone where that is wanted", () => {
    expect(toChatCompletionsMessages([drawn], { attachments: false })).toHaveLength(1);
    expect(toResponsesOutputs([drawn], { attachments: false })[0]?.output).toBe("a dot");
  });
});

describe("toToolCall", () => {
  it("takes calls of both APIs", () => {
    const made = { name: "n", arguments: "{}" };
    const chat = toToolCall({ id: "a", function: made });
    const item = toToolCall({ type: "function_call", call_id: "a", ...made });
    expect([chat.id, chat.name, chat.arguments]).toEqual(["a", "n", "{}"]);
    expect(item).toEqual(chat);
  });

  it.each([
    [{ name: "n", unknown: 1 }, "a call has no unknown"],
    [{ name: "n", arguments: [] }, "arguments must be an object or JSON text"],
    [{ name: "n", arguments: 0 }, "arguments must be an object or JSON text"],
    [{ name: "n", timeoutMs: 0 }, "timeoutMs must be positive"],
    [{ id: "a" }, "name must be text"],
    [7, "not a tool call"],
  ])("refuses %j", (given, text) => {
    expect(() => toToolCall(given as never)).toThrow(text);
  });
});

describe("approvals", () => {
  const pending = result({ reason: "APPROVAL_REQUIRED", approvalId: "p" });

  it("decide on calls that wait", () => {
    expect(pendingApprovals([result(), pending])).toEqual([pending]);
    expect(approve(pending, { by: "ann", arguments: { a: 1 } })).toMatchObject({
      approvalId: "p",
      decision: 1,
      decidedBy: "ann",
      arguments: '{"a":1}',
    });
    expect(approve("p").arguments).toBeUndefined();
    expect(reject("p", { comment: "no" })).toMatchObject({ decision: 2, comment: "no" });
  });

  it("need something that waits", () => {
    expect(() => approve(result())).toThrow("does not wait for approval");
  });
});

describe("texts", () => {
  it("escape lone surrogates alone", () => {
    expect(escapeSurrogates("a\ud83d😀")).toBe("a\\ud83d😀");
  });

  it.each([
    ["it's", '"it\'s"'],
    ["plain", "'plain'"],
    ["a\n\u0000", String.raw`'a\n\x00'`],
    ["'\"", String.raw`'\'"'`],
  ])("are quoted: %j", (text, expected) => {
    expect(quoted(text)).toBe(expected);
  });
});
