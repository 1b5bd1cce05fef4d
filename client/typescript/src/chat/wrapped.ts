/** Calls that a model wrapped in one call of `multi_tool_use.parallel`. */

import { isObject } from "./items.js";
import { NO_RECIPIENT } from "./text.js";

const WRAPPERS = ["multi_tool_use.parallel", "multi_tool_use_parallel"];

/** A call inside another; where it is refused, why. */
export interface ToolUse {
  readonly name: string;
  /** Arguments, as the model wrote them. */
  readonly arguments: string;
  readonly refusal: string;
}

/** Whether a call of that name wraps others. */
export function isWrapper(name: string): boolean {
  return WRAPPERS.includes(name);
}

/** Returns what a wrapper wraps; undefined where it cannot be read. */
export function toolUses(text: string): ToolUse[] | undefined {
  let wrapped: unknown;
  try {
    wrapped = JSON.parse(text);
  } catch {
    return undefined; // As it is, it is a call of a tool that does not exist.
  }
  const uses = isObject(wrapped) ? wrapped.tool_uses : undefined;
  if (!Array.isArray(uses)) return undefined;
  const raw = elementsOf(membersOf(text).get("tool_uses") ?? "[]");
  return uses.map((use: unknown, place) => readUse(use, raw[place] ?? ""));
}

function readUse(use: unknown, raw: string): ToolUse {
  const name = isObject(use) ? use.recipient_name : undefined;
  if (!isObject(use) || typeof name !== "string") {
    return { name: "", arguments: "", refusal: NO_RECIPIENT };
  }
  const { parameters } = use;
  if (typeof parameters === "string" && parameters)
    return { name, arguments: parameters, refusal: "" };
  const isEmpty = !parameters || (Array.isArray(parameters) && parameters.length === 0);
  // The text as the model wrote it: JavaScript's numbers would change large integers.
  const given = isEmpty ? "{}" : (membersOf(raw).get("parameters") ?? "{}");
  return { name, arguments: given, refusal: "" };
}

/** The texts of an object's members; of one that is repeated the last. `text` is valid JSON. */
function membersOf(text: string): Map<string, string> {
  return new Map(
    elementsOf(text).map((member) => {
      const end = endOfString(member, 0);
      const colon = member.indexOf(":", end);
      return [JSON.parse(member.slice(0, end)) as string, member.slice(colon + 1).trim()];
    }),
  );
}

/** The texts between the commas of an array or an object. `text` is valid JSON. */
function elementsOf(text: string): string[] {
  const inner = text.trim().slice(1, -1);
  const elements: string[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at < inner.length; at += 1) {
    const character = inner.charAt(at);
    if (character === '"') at = endOfString(inner, at) - 1;
    else if (character === "{" || character === "[") depth += 1;
    else if (character === "}" || character === "]") depth -= 1;
    else if (character === "," && depth === 0) {
      elements.push(inner.slice(start, at).trim());
      start = at + 1;
    }
  }
  const last = inner.slice(start).trim();
  return last ? [...elements, last] : elements;
}

/** The place after the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (text.charAt(at) !== '"') at += text.charAt(at) === "\\" ? 2 : 1;
  return at + 1;
}
