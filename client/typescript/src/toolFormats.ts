/** Tools in the formats of model providers. */

import { ToolNames } from "./toolNames.js";
import type { JsonSchema, Tool } from "./tools.js";

/** A function as both APIs describe it. */
export interface ProviderFunction {
  name: string;
  description: string;
  parameters: Record<string, unknown>;
}

/** A tool as the Chat Completions API takes it. */
export interface ChatCompletionsTool {
  type: "function";
  function: ProviderFunction;
}

/** A tool as the Responses API takes it. */
export interface ResponsesTool extends ProviderFunction {
  type: "function";
  strict: boolean;
}

/** What describes a tool to a model. */
export type ToolDescription = Pick<Tool, "name" | "description" | "inputSchema">;

/**
 * Returns tools as the Chat Completions API takes them.
 *
 * @param tools - From `listTools`.
 * @param names - Maps the names; by default made from `tools`.
 */
export function toChatCompletionsTools(
  tools: readonly ToolDescription[],
  names?: ToolNames,
): ChatCompletionsTool[] {
  return functionsOf(tools, names).map((described) => ({ type: "function", function: described }));
}

/**
 * Returns tools as the Responses API takes them.
 *
 * @param tools - From `listTools`.
 * @param names - Maps the names; by default made from `tools`.
 */
export function toResponsesTools(
  tools: readonly ToolDescription[],
  names?: ToolNames,
): ResponsesTool[] {
  // Here strict is on unless said otherwise, and refuses most schemas of real tools.
  return functionsOf(tools, names).map((described) => ({
    type: "function",
    ...described,
    strict: false,
  }));
}

function functionsOf(tools: readonly ToolDescription[], names?: ToolNames): ProviderFunction[] {
  const mapping = names ?? new ToolNames(tools.map((tool) => tool.name));
  return tools.map((tool) => ({
    name: mapping.toProvider(tool.name),
    description: tool.description,
    parameters: parametersOf(tool.inputSchema),
  }));
}

function parametersOf(schema: JsonSchema): Record<string, unknown> {
  const { $schema: _, ...parameters } = schema;
  return { type: "object", properties: {}, ...parameters };
}
