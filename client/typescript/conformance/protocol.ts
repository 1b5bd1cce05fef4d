/** Requests of the harness, and what is told of clients' objects. */

import { Client, type ClientOptions, SidecallError, type ToolResult } from "sidecall";
import { ModelError } from "sidecall/chat";
import OpenAI from "openai";

export type Json = Record<string, unknown>;

/** Where a request finds its sidecar. */
export interface Sidecar {
  endpoint?: string;
  token?: string;
  metadata?: Record<string, string>;
  max_message_bytes?: number;
  tls?: { ca_file?: string; cert_file?: string; key_file?: string };
}

/** A request; its further members are those of its kind. */
export interface Request {
  id: string;
  kind: string;
  sidecar: Sidecar;
}

/** What a hook of the application fails with. */
export class HookError extends Error {}

/** Options of a client or a host as a request asks for it. */
export function connectionOf(where: Sidecar): ClientOptions {
  const { endpoint, token, metadata, max_message_bytes: maxMessageBytes, tls } = where;
  const files = tls && { caFile: tls.ca_file, certFile: tls.cert_file, keyFile: tls.key_file };
  return { endpoint, token, metadata, maxMessageBytes, tls: files };
}

/** Makes the client of a request. */
export function clientOf(where: Sidecar): Client {
  return new Client(connectionOf(where));
}

/** Tells an error. */
export function errorOf(error: unknown): Json {
  if (!(error instanceof Error)) throw error;
  const { message } = error;
  if (error instanceof SidecallError) {
    const { code, reason, notStarted } = error;
    return { kind: "sidecar", code, reason, not_started: notStarted, message };
  }
  if (error instanceof ModelError) return { kind: "model", message };
  if (error instanceof HookError) return { kind: "hook", message };
  if (error instanceof AggregateError && error.errors.every((each) => each instanceof HookError)) {
    return { kind: "hook", message };
  }
  if (error instanceof OpenAI.APIError) {
    return { kind: "provider", message, status: error.status as number | undefined };
  }
  if (error instanceof OpenAI.OpenAIError) return { kind: "provider", message };
  if (error instanceof RangeError || error instanceof TypeError)
    return { kind: "invalid", message };
  throw error;
}

/** Tells a result. */
export function resultOf(result: ToolResult): Json {
  return {
    call_id: result.callId,
    name: result.name,
    content: result.content,
    code: result.code,
    reason: result.reason,
    execution_state: result.executionState,
    attempts: result.attempts,
    truncated: result.truncated,
    replayed: result.replayed,
    coalesced: result.coalesced,
    approval_id: result.approvalId,
    approval_arguments: result.approvalArguments,
    parts: result.parts.map(partOf),
  };
}

function partOf(part: ToolResult["parts"][number]): Json {
  switch (part.type) {
    case "text":
      return { text: part.text };
    case "json":
      return { json: part.json };
    case "blob": {
      const data = Buffer.from(part.data).toString("base64");
      return { blob: { media_type: part.mediaType, data, name: part.name } };
    }
    case "link":
      return { link: { uri: part.uri, media_type: part.mediaType, name: part.name } };
  }
}
