/** Results of functions that yield them. */

import type { ToolContext } from "./context.js";
import { PartValue } from "./parts.js";

/** What a function came to; text that it yields is passed on as it comes. */
export async function collected(value: unknown, context: ToolContext): Promise<unknown> {
  const settled = await value;
  if (!isAsyncIterable(settled)) return settled;
  const items: unknown[] = [];
  for await (const item of settled) {
    context.signal.throwIfAborted();
    if (typeof item === "string") context.output(item);
    items.push(item);
  }
  return joined(items);
}

/** Texts are pieces of one text; between images, files and links as well. */
function joined(items: readonly unknown[]): unknown {
  if (items.every((item) => typeof item === "string")) return items.join("");
  if (!items.some((item) => item instanceof PartValue)) return items;
  const parts: unknown[] = [];
  for (const item of items) {
    const last = parts.at(-1);
    if (typeof item === "string" && typeof last === "string") parts[parts.length - 1] = last + item;
    else parts.push(item);
  }
  return parts;
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}
