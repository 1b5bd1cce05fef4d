/** What a tool returns beside text and JSON: images, files and links. */

import type { ResultPart } from "../results.js";

const MEDIA_TYPE = /^[\w.+-]+\/[\w.+-]+( *;[ -~]*)?$/;
const SIGNATURES: readonly [offset: number, bytes: string, mediaType: string][] = [
  [0, "\x89PNG\r\n\x1a\n", "image/png"],
  [0, "\xff\xd8\xff", "image/jpeg"],
  [0, "GIF8", "image/gif"],
  [8, "WEBP", "image/webp"],
  [0, "%PDF-", "application/pdf"],
  [0, "PK\x03\x04", "application/zip"],
];

/** A part of a result; made by `image`, `file` and `link`. */
export class PartValue {
  constructor(readonly part: Extract<ResultPart, { type: "blob" | "link" }>) {}
}

/** About an image or a file. */
export interface BlobOptions {
  /** What the bytes are, for example "image/png"; by default told from the content. */
  mediaType?: string | undefined;
  /** A file name for people and models. */
  name?: string | undefined;
}

/**
 * An image that a tool returns, alone or in a list with text and other values.
 *
 * @throws RangeError: Its format is not known, or the media type malformed.
 */
export function image(data: Uint8Array, options: BlobOptions = {}): PartValue {
  const mediaType = options.mediaType ?? sniffed(data);
  if (!mediaType?.startsWith("image/")) {
    throw new RangeError("the image's format is not known; say it with mediaType");
  }
  return blob(data, mediaType, options.name);
}

/**
 * A file that a tool returns, alone or in a list with text and other values.
 *
 * @throws RangeError: The media type is malformed.
 */
export function file(data: Uint8Array, options: BlobOptions = {}): PartValue {
  return blob(data, options.mediaType ?? sniffed(data) ?? "application/octet-stream", options.name);
}

/**
 * Points to content elsewhere. The model gets the address as text; nothing is fetched.
 *
 * @throws RangeError: The address is empty, or the media type malformed.
 */
export function link(uri: string, options: BlobOptions = {}): PartValue {
  if (!uri) throw new RangeError("a link needs an address");
  const { mediaType = "", name = "" } = options;
  return new PartValue({ type: "link", uri, mediaType: mediaType && checked(mediaType), name });
}

function blob(data: Uint8Array, mediaType: string, name = ""): PartValue {
  return new PartValue({ type: "blob", data, mediaType: checked(mediaType), name });
}

function checked(mediaType: string): string {
  if (!MEDIA_TYPE.test(mediaType)) {
    throw new RangeError(`${JSON.stringify(mediaType)} is not a media type such as "image/png"`);
  }
  return mediaType;
}

function sniffed(data: Uint8Array): string | undefined {
  const head = Buffer.from(data.subarray(0, 16)).toString("latin1");
  return SIGNATURES.find(([offset, bytes]) => head.startsWith(bytes, offset))?.[2];
}
