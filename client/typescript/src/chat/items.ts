/** Access to what providers send, and to items that callers put into the history. */

import { escapeSurrogates } from "../texts.js";
import type { HistoryItem } from "./model.js";

// Their members are fields of the API; below others lies what only the provider understands.
const KNOWN = new Set(["audio", "content", "function", "summary", "tool_calls"]);

/** Whether something is an object with members. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The text in a field; empty where there is none. */
export function textIn(item: unknown, key: string): string {
  const value = isObject(item) ? item[key] : undefined;
  return typeof value === "string" ? value : "";
}

/** The objects in a field that is a list. */
export function objectsIn(item: unknown, key: string): Record<string, unknown>[] {
  const value = isObject(item) ? item[key] : undefined;
  return Array.isArray(value) ? value.filter(isObject) : [];
}

/** The number in a field; 0 where there is none. */
export function numberIn(item: unknown, key: string): number {
  const value = isObject(item) ? item[key] : undefined;
  return typeof value === "number" ? value : 0;
}

/** What a provider says about an error, for people. */
export function shown(value: unknown): string {
  if (isObject(value) && typeof value.message === "string") return value.message;
  return value === undefined ? "no reason given" : JSON.stringify(value);
}

/** Makes a history item of what the provider sent: a copy without fields that are null. */
export function toItem(sent: Record<string, unknown>): HistoryItem {
  return withoutNulls(sent) as HistoryItem;
}

/** Returns a copy whose texts can be written as UTF-8: a model may write lone surrogates. */
export function sendable<T>(value: T): T {
  if (typeof value === "string") return escapeSurrogates(value) as T;
  if (Array.isArray(value)) return value.map((item: unknown) => sendable(item)) as T;
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, sendable(item)])) as T;
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== null && item !== undefined)
      .map(([key, item]) => [key, KNOWN.has(key) ? withoutNulls(item) : structuredClone(item)]),
  );
}
