/** Executes one batch. */

import {
  type Approval,
  approve,
  type BatchOptions,
  type BatchResults,
  type Client,
  reject,
  type RpcOptions,
  type ToolCall,
} from "sidecall";
import { clientOf, errorOf, type Json, type Request, resultOf } from "./protocol.js";

/** A decision of the harness. */
export interface Decision {
  decision: string;
  by?: string;
  arguments?: string;
  comment?: string;
}

/** Options of a batch, in the protocol's names. */
export interface GivenOptions {
  mode?: "parallel" | "sequential";
  on_failure?: "continue" | "stop";
  max_concurrency?: number;
  context?: Record<string, string>;
  request_id?: string;
  sent_to_instance?: string;
  session_id?: string;
  max_response_bytes?: number;
  disable_references?: boolean;
  approvals?: (Decision & { approval_id: string })[];
}

interface GivenCall {
  id?: string;
  name: string;
  arguments?: string;
  depends_on?: string[];
  timeout_ms?: number;
  idempotency_key?: string;
}

interface BatchRequest extends Request {
  stream?: boolean;
  timeout_ms?: number;
  calls: GivenCall[];
  options?: GivenOptions;
}

/** Executes the batch of a request. */
export async function runBatch(request: Request): Promise<Json> {
  const given = request as BatchRequest;
  const client = clientOf(given.sidecar);
  try {
    const options = { ...optionsOf(given.options ?? {}), timeoutMs: given.timeout_ms };
    const { results, requestId } = await execute(client, given, options);
    return { outcome: "results", results: results.map(resultOf), request_id: requestId };
  } catch (error) {
    return { outcome: "error", error: errorOf(error) };
  } finally {
    client.close();
  }
}

async function execute(
  client: Client,
  given: BatchRequest,
  options: BatchOptions & RpcOptions,
): Promise<BatchResults> {
  const calls = given.calls.map(callOf);
  if (!given.stream) return await client.executeBatch(calls, options);
  await using turn = await client.streamBatch(options);
  for (const [index, call] of calls.entries()) await turn.send(index, call);
  await turn.seal();
  return await turn.results();
}

/** Options of a batch, in the client's names. */
export function optionsOf(given: GivenOptions): BatchOptions {
  return {
    mode: given.mode,
    onFailure: given.on_failure,
    maxConcurrency: given.max_concurrency,
    context: given.context,
    requestId: given.request_id,
    sentToInstance: given.sent_to_instance,
    sessionId: given.session_id,
    maxResponseBytes: given.max_response_bytes,
    disableReferences: given.disable_references,
    approvals: given.approvals?.map((each) => decided(each.approval_id, each)),
  };
}

/** Makes the decision that the harness gives. */
export function decided(approvalId: string, given: Decision): Approval {
  const { by, comment } = given;
  return given.decision === "approve"
    ? approve(approvalId, { by, arguments: given.arguments })
    : reject(approvalId, { by, comment });
}

function callOf(given: GivenCall): ToolCall {
  return {
    id: given.id,
    name: given.name,
    arguments: given.arguments,
    dependsOn: given.depends_on,
    timeoutMs: given.timeout_ms,
    idempotencyKey: given.idempotency_key,
  };
}
