/** Sidecall: executes the tool calls of language models in a sidecar. */

export { approve, pendingApprovals, reject } from "./approvals.js";
export type { AwaitsApproval, DecisionOptions } from "./approvals.js";
export type { BatchEvent, BatchSummary } from "./batchEvents.js";
export type { BatchStream } from "./batchStream.js";
export type { RpcOptions } from "./channel.js";
export { Client } from "./client.js";
export type { ClientOptions } from "./client.js";
export { tokenFromFile } from "./connection.js";
export type { ConnectionOptions, RpcMetadata, TlsOptions, Token } from "./connection.js";
export type { BlockCause, Effects, ExecutionMode, ExecutionState, FailurePolicy } from "./enums.js";
export { SidecallError } from "./errors.js";
export type { SidecallErrorOptions } from "./errors.js";
export type { Approval } from "./gen/sidecall/v1/execution_pb.js";
export type { ToolContext } from "./host/context.js";
export { tool } from "./host/definition.js";
export type { HostedTool, ToolDefinition, ToolLimitOptions } from "./host/definition.js";
export type { HostLogger } from "./host/hostLink.js";
export { file, image, link } from "./host/parts.js";
export type { BlobOptions, PartValue } from "./host/parts.js";
export type { StandardIssue, StandardSchema } from "./host/schema.js";
export { ToolError } from "./host/toolError.js";
export { ToolHost } from "./host/toolHost.js";
export type { ToolHostOptions } from "./host/toolHost.js";
export type { BatchOptions, ExecuteOptions } from "./requests.js";
export { toChatCompletionsMessages, toResponsesOutputs } from "./resultFormats.js";
export type {
  AttachedPart,
  ChatCompletionsAnswer,
  OutputPart,
  ResponsesAnswer,
} from "./resultFormats.js";
export type {
  BatchResults,
  CallTiming,
  CriticalStep,
  FailedAttempt,
  Outcome,
  ResultPart,
  Schedule,
  ToolResult,
} from "./results.js";
export type { StatusCode, Violation } from "./statusDetails.js";
export type {
  Arguments,
  ChatCompletionsCall,
  ResponsesCall,
  ToolCall,
  ToolCallLike,
} from "./toolCalls.js";
export { toChatCompletionsTools, toResponsesTools } from "./toolFormats.js";
export type {
  ChatCompletionsTool,
  ProviderFunction,
  ResponsesTool,
  ToolDescription,
} from "./toolFormats.js";
export { ToolNames } from "./toolNames.js";
export type { Capabilities, JsonSchema, Rate, Tool, ToolLimits, ToolList } from "./tools.js";
export { VERSION } from "./version.js";
