/** Values of functions as JSON text. */

import { ResultError } from "./toolError.js";
import { PartValue } from "./parts.js";
import { escapeSurrogates } from "../texts.js";

/**
 * Writes a value as JSON: like `JSON.stringify`, but a bigint becomes an integer, NaN and the
 * infinities strings as in protobuf's JSON, a Map an object and any other iterable a list.
 *
 * @throws ResultError: The value has no JSON form.
 */
export function jsonText(value: unknown): string {
  return written(value, "", []) ?? "null";
}

function written(given: unknown, key: string, ancestors: readonly object[]): string | undefined {
  const value = hasToJson(given) ? given.toJSON(key) : given;
  switch (typeof value) {
    case "string":
      return JSON.stringify(escapeSurrogates(value));
    case "number":
      return Number.isFinite(value) ? String(value) : `"${value}"`;
    case "bigint":
    case "boolean":
      return String(value);
    case "undefined":
      return undefined;
    case "object":
      return value === null ? "null" : writtenObject(value, ancestors);
    default:
      throw new ResultError(`holds a ${typeof value}, which has no JSON form`);
  }
}

function writtenObject(value: object, ancestors: readonly object[]): string {
  if (value instanceof PartValue) {
    throw new ResultError(
      "holds an image, a file or a link inside another value; return it alone, or in a list " +
        "beside text and other values",
    );
  }
  if (ArrayBuffer.isView(value)) throw new ResultError("holds bytes that are not text");
  if (ancestors.includes(value)) throw new ResultError("is nested too deeply or holds itself");
  const inside = [...ancestors, value];
  if (!(value instanceof Map) && Symbol.iterator in value) {
    const items = Array.from(value as Iterable<unknown>, (item) => written(item, "", inside));
    return `[${items.map((item) => item ?? "null").join(",")}]`;
  }
  const members =
    value instanceof Map ? [...(value as Map<unknown, unknown>)] : Object.entries(value);
  const texts = members.flatMap(([name, member]) => {
    const text = written(member, String(name), inside);
    return text === undefined ? [] : `${JSON.stringify(escapeSurrogates(String(name)))}:${text}`;
  });
  return `{${texts.join(",")}}`;
}

function hasToJson(value: unknown): value is { toJSON: (key: string) => unknown } {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as { toJSON?: unknown }).toJSON === "function"
  );
}
