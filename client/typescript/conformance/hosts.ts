/** Attaches the tools of the suite. */

import {
  type HostedTool,
  image,
  link,
  tool,
  ToolError,
  ToolHost,
  type ToolContext,
} from "sidecall";
import { connectionOf, errorOf, type Json, type Request } from "./protocol.js";

interface HostRequest extends Request {
  action: string;
  host_name?: string;
  max_concurrency?: number;
}

/** Arguments of all tools; the schema of each says which it has. */
interface Given {
  text: string;
  a: number;
  b: number;
  steps: number;
  name: string;
  code: Code;
  message: string;
  retry_after_ms?: number;
  size: number;
}

type Code = NonNullable<NonNullable<ConstructorParameters<typeof ToolError>[1]>["code"]>;

const PNG = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** Attaches one host at a time. */
export class Hosts {
  #host: ToolHost | undefined;
  #log: string[] = [];

  /** Starts or stops the host of a request. */
  async run(request: Request): Promise<Json> {
    const given = request as HostRequest;
    if (given.action === "stop") {
      await this.close();
      return { outcome: "stopped", log: this.#log };
    }
    this.#log = [];
    const host = new ToolHost({
      ...connectionOf(given.sidecar),
      tools: toolsOf(this.#log),
      name: given.host_name,
      maxConcurrency: given.max_concurrency,
    }).start();
    try {
      await host.attached();
    } catch (error) {
      await host.close().catch(() => undefined);
      return { outcome: "error", error: errorOf(error) };
    }
    this.#host = host;
    return { outcome: "attached" };
  }

  /** Drains the host, where there is one. */
  async close(): Promise<void> {
    const host = this.#host;
    this.#host = undefined;
    await host?.close();
  }
}

function toolsOf(log: string[]): HostedTool[] {
  return [
    define("host_echo", "read_only", { text: "string" }, ({ text }) => text),
    define("host_add", "read_only", { a: "integer", b: "integer" }, ({ a, b }) => ({ sum: a + b })),
    define("host_nothing", "idempotent", {}, () => undefined),
    define("host_parts", "read_only", {}, () => [
      "two parts",
      image(PNG, { name: "dot.png" }),
      link("https://example.com/a", { mediaType: "text/html", name: "a" }),
    ]),
    define("host_progress", "read_only", { steps: "integer" }, progress),
    define("host_wait", "non_idempotent", { name: "string" }, (given, context) =>
      wait(given.name, context, log),
    ),
    define(
      "host_fail",
      "non_idempotent",
      { code: "string", message: "string", retry_after_ms: "integer" },
      ({ code, message, retry_after_ms: retryAfterMs }) => {
        throw new ToolError(message, { code, retryAfterMs: retryAfterMs || undefined });
      },
      ["code", "message"],
    ),
    define("host_crash", "non_idempotent", { text: "string" }, ({ text }) => {
      throw new Error(text);
    }),
    define("host_large", "read_only", { size: "integer" }, ({ size }) => "x".repeat(size)),
    define("host_context", "read_only", {}, (_, context) => ({
      context: context.context,
      call_id: context.callId,
      attempt: context.attempt,
      idempotency_key: context.idempotencyKey,
      traceparent: context.traceparent,
      has_deadline: context.remainingMs() !== undefined,
    })),
  ];
}

function define(
  name: string,
  effects: "read_only" | "idempotent" | "non_idempotent",
  types: Record<string, string>,
  execute: (given: Given, context: ToolContext) => unknown,
  required = Object.keys(types),
): HostedTool {
  const properties = Object.fromEntries(
    Object.entries(types).map(([key, type]) => [key, { type }]),
  );
  return tool<Given>({
    name,
    description: `Conformance tool ${name}.`,
    inputSchema: { type: "object", properties, required, additionalProperties: false },
    effects,
    execute,
  });
}

function progress({ steps }: { steps: number }, context: ToolContext): string {
  for (let step = 1; step <= steps; step += 1) {
    context.progress(step, steps, `step ${step}`);
    context.output(`part ${step};`);
  }
  return "done";
}

async function wait(name: string, context: ToolContext, log: string[]): Promise<never> {
  context.progress(1, undefined, "waiting");
  return await new Promise<never>((_, reject) => {
    context.signal.addEventListener("abort", () => {
      log.push(`host_wait ${name} cancelled`);
      reject(context.signal.reason as Error);
    });
  });
}
