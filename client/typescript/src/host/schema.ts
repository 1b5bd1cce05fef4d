/** Schemas of tools: JSON Schema as it is, or a library's that can be written as one. */

import type { JsonSchema } from "../tools.js";

const TARGET = { target: "draft-2020-12" };

/** What a Standard Schema says about a value that it refuses. */
export interface StandardIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * A schema of a validation library, as Standard Schema and Standard JSON Schema describe it:
 * zod (4.2 and newer) and others have them.
 */
export interface StandardSchema<Output = unknown> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (
      value: unknown,
    ) =>
      | { readonly value: Output; readonly issues?: undefined }
      | { readonly issues: readonly StandardIssue[] }
      | Promise<
          | { readonly value: Output; readonly issues?: undefined }
          | { readonly issues: readonly StandardIssue[] }
        >;
    readonly jsonSchema?: {
      readonly input: (options: { target: string }) => Record<string, unknown>;
      readonly output: (options: { target: string }) => Record<string, unknown>;
    };
  };
}

/** Whether a schema is one of a library. */
export function isStandard(schema: JsonSchema | StandardSchema): schema is StandardSchema {
  return "~standard" in schema;
}

/**
 * JSON text of a schema.
 *
 * @param side - Which values it describes: those that are given to it, or that it returns.
 * @throws TypeError: It cannot be written as JSON Schema.
 */
export function schemaText(schema: JsonSchema | StandardSchema, side: "input" | "output"): string {
  if (!isStandard(schema)) return JSON.stringify(schema);
  const { jsonSchema, vendor } = schema["~standard"];
  if (!jsonSchema) {
    throw new TypeError(
      `a schema of ${vendor} cannot be written as JSON Schema; newer versions may`,
    );
  }
  return JSON.stringify(jsonSchema[side](TARGET));
}

/** What is wrong with a value, one line for each issue. */
export function issueLines(issues: readonly StandardIssue[]): string {
  return issues
    .map(({ message, path = [] }) => {
      const keys = path.map((step) => (typeof step === "object" ? step.key : step));
      const pointer = keys.map((key) => `/${escaped(String(key))}`).join("");
      return `- ${pointer || "arguments"}: ${message}`;
    })
    .join("\n");
}

function escaped(key: string): string {
  return key.replaceAll("~", "~0").replaceAll("/", "~1");
}
