/** Runner of the conformance suite: JSON lines in, JSON lines out. */

import { createInterface } from "node:readline";
import { VERSION as OPENAI_VERSION } from "openai/version";
import { VERSION } from "sidecall";
import { runBatch } from "./batches.js";
import { Chats } from "./chats.js";
import { Hosts } from "./hosts.js";
import type { Json, Request } from "./protocol.js";

const chats = new Chats();
const hosts = new Hosts();
const KINDS: Readonly<Record<string, (request: Request) => Promise<Json> | Json>> = {
  hello,
  batch: runBatch,
  chat: (request) => chats.run(request),
  host: (request) => hosts.run(request),
};

function hello(): Json {
  return { language: "typescript", version: VERSION, library: `openai ${OPENAI_VERSION}` };
}

async function answer(request: Request): Promise<void> {
  const run = Object.hasOwn(KINDS, request.kind) ? KINDS[request.kind] : undefined;
  let told: Json;
  try {
    told = run ? await run(request) : { unsupported: `there is no kind ${request.kind}` };
  } catch (error) {
    told = { broken: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
  process.stdout.write(`${JSON.stringify({ id: request.id, ...told })}\n`);
}

const answering = new Set<Promise<void>>();
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line) as Request;
  if (request.kind === "cancel") {
    chats.cancel();
    continue;
  }
  const answered = answer(request);
  answering.add(answered);
  void answered.finally(() => answering.delete(answered));
}
await Promise.all(answering);
await hosts.close();
