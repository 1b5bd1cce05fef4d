/**
 * Results in the forms that model providers take.
 *
 * A provider takes images and files beside the text of a result: in the Responses API inside
 * the call's output; in Chat Completions, whose tool messages hold text only, in a user message
 * after all tool messages of the turn. Links stay text: a provider that cannot fetch one
 * refuses the whole conversation.
 */

import { blobLine } from "./partLines.js";
import type { ResultPart, ToolResult } from "./results.js";

type Blob = Extract<ResultPart, { type: "blob" }>;

/** A content part of a user message in Chat Completions. */
export type AttachedPart =
  | { type: "text"; text: string }
  | { type: "image_url"; image_url: { url: string } }
  | { type: "file"; file: { filename: string; file_data: string } };

/** A content part of an output in the Responses API. */
export type OutputPart =
  | { type: "input_text"; text: string }
  | { type: "input_image"; image_url: string }
  | { type: "input_file"; filename: string; file_data: string };

/** A message that answers calls in Chat Completions, or follows the answers. */
export type ChatCompletionsAnswer =
  | { role: "tool"; tool_call_id: string; content: string }
  | { role: "user"; content: AttachedPart[] };

/** An item that answers a function call in the Responses API. */
export interface ResponsesAnswer {
  type: "function_call_output";
  call_id: string;
  output: string | OutputPart[];
}

/** Begins the user message that holds attachments. */
export const ATTACHMENTS_NOTE =
  "[Images and files of the tool results above. The user did not write this.]";

const IMAGES = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const PDF = "application/pdf";
const OFFICE = "application/vnd.openxmlformats-officedocument";
/** Documents that the Responses API takes, with the extension of a file without a name. */
const DOCUMENTS: Readonly<Record<string, string>> = {
  [PDF]: ".pdf",
  "application/json": ".json",
  "application/rtf": ".rtf",
  "application/msword": ".doc",
  "application/vnd.ms-excel": ".xls",
  "application/vnd.ms-powerpoint": ".ppt",
  "application/vnd.oasis.opendocument.text": ".odt",
  [`${OFFICE}.wordprocessingml.document`]: ".docx",
  [`${OFFICE}.spreadsheetml.sheet`]: ".xlsx",
  [`${OFFICE}.presentationml.presentation`]: ".pptx",
};
const TEXTS: Readonly<Record<string, string>> = {
  "text/plain": ".txt",
  "text/csv": ".csv",
  "text/html": ".html",
  "text/css": ".css",
  "text/xml": ".xml",
  "text/markdown": ".md",
  "text/javascript": ".js",
};

/**
 * Makes the messages that answer the calls of one turn in Chat Completions.
 *
 * They go right after the assistant message that made the calls, and together answer all of
 * them where there is a result for each.
 *
 * @param results - The results of the turn's calls.
 * @param options - `attachments`: whether a user message with images and PDF files follows the
 *   tool messages where there are any, which is the default.
 */
export function toChatCompletionsMessages(
  results: readonly ToolResult[],
  options: { attachments?: boolean } = {},
): ChatCompletionsAnswer[] {
  const messages: ChatCompletionsAnswer[] = results.map((result) => ({
    role: "tool",
    tool_call_id: result.callId,
    content: result.content,
  }));
  if (options.attachments === false) return messages;
  const attached = results.flatMap((result) => attachedParts(result.callId, [result]));
  return attached.length > 0 ? [...messages, attachedMessage(attached)] : messages;
}

/**
 * Makes the items that answer function calls in the Responses API.
 *
 * @param results - The results.
 * @param options - `attachments`: whether outputs hold images and documents beside text, which
 *   is the default.
 */
export function toResponsesOutputs(
  results: readonly ToolResult[],
  options: { attachments?: boolean } = {},
): ResponsesAnswer[] {
  return results.map((result) => ({
    type: "function_call_output",
    call_id: result.callId,
    output: responsesOutput(result.content, options.attachments === false ? [] : [result]),
  }));
}

/**
 * The images and PDF files of a call's results as labelled parts of a user message.
 *
 * Beside them it holds nothing that a tool wrote: that would speak as the user.
 */
export function attachedParts(callId: string, results: readonly ToolResult[]): AttachedPart[] {
  const parts: AttachedPart[] = [];
  for (const result of results) {
    for (const blob of blobsOf(result)) {
      const part = chatCompletionsPart(blob);
      if (!part) continue;
      const number = parts.length / 2 + 1;
      const text = `Attachment ${number} of the result of call ${callId} (${result.name}):`;
      parts.push({ type: "text", text }, part);
    }
  }
  return parts;
}

/** The user message that holds attachments. */
export function attachedMessage(parts: readonly AttachedPart[]): ChatCompletionsAnswer {
  return { role: "user", content: [{ type: "text", text: ATTACHMENTS_NOTE }, ...parts] };
}

/** The output of a call: its text, and with images or documents a list that begins so. */
export function responsesOutput(
  content: string,
  results: readonly ToolResult[],
): string | OutputPart[] {
  const parts = results.flatMap(blobsOf).flatMap((blob): OutputPart[] => {
    const part = responsesPart(blob);
    if (!part) return [];
    const line = blobLine(blob.mediaType, blob.data.length, blob.name);
    return [{ type: "input_text", text: `${line}:` }, part];
  });
  return parts.length > 0 ? [{ type: "input_text", text: content }, ...parts] : content;
}

function blobsOf(result: ToolResult): Blob[] {
  return result.parts.filter((part) => part.type === "blob").filter((blob) => blob.data.length > 0);
}

function chatCompletionsPart(blob: Blob): AttachedPart | undefined {
  const mediaType = bare(blob.mediaType);
  if (IMAGES.includes(mediaType)) {
    return { type: "image_url", image_url: { url: dataUrl(mediaType, blob.data) } };
  }
  // Without the tool's own name for it, which the tool message tells.
  return mediaType === PDF ? { type: "file", file: fileOf(mediaType, blob.data, "") } : undefined;
}

function responsesPart(blob: Blob): OutputPart | undefined {
  const mediaType = bare(blob.mediaType);
  if (IMAGES.includes(mediaType)) {
    return { type: "input_image", image_url: dataUrl(mediaType, blob.data) };
  }
  if (Object.hasOwn(DOCUMENTS, mediaType) || mediaType.startsWith("text/")) {
    return { type: "input_file", ...fileOf(mediaType, blob.data, blob.name) };
  }
  return undefined;
}

function bare(mediaType: string): string {
  const plain = (mediaType.split(";", 1)[0] ?? "").trim().toLowerCase();
  return plain === "image/jpg" ? "image/jpeg" : plain;
}

function fileOf(
  mediaType: string,
  data: Uint8Array,
  name: string,
): { filename: string; file_data: string } {
  const extension = DOCUMENTS[mediaType] ?? TEXTS[mediaType] ?? "";
  return { filename: name || `file${extension}`, file_data: dataUrl(mediaType, data) };
}

function dataUrl(mediaType: string, data: Uint8Array): string {
  return `data:${mediaType};base64,${Buffer.from(data).toString("base64")}`;
}
