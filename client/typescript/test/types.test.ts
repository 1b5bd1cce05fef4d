import { describe, expect, it } from "vitest";
import { z } from "zod";
import { tool } from "../src/index.js";

describe("tool", () => {
  it("takes the types of arguments from a library's schema", () => {
    const made = tool({
      name: "shorten",
      description: "Shortens.",
      inputSchema: z.object({
        length: z.number().int().default(3),
        text: z.string().transform((text) => text.length),
      }),
      execute: ({ length, text }) => text.toFixed() + length.toFixed(),
    });
    const schema = JSON.parse(made.message.inputSchema) as { properties: object };
    expect(Object.keys(schema.properties)).toEqual(["length", "text"]);
  });

  it("refuses another type in the function", () => {
    const made = tool({
      name: "count",
      description: "Counts.",
      inputSchema: z.object({ count: z.number() }),
      // @ts-expect-error: count is a number
      execute: ({ count }) => (count.length as number) + 1,
    });
    expect(made.name).toBe("count");
  });

  it("takes types that are given beside a JSON Schema", () => {
    const made = tool<{ city: string }>({
      name: "get_weather",
      description: "Gets the weather.",
      inputSchema: { type: "object", properties: { city: { type: "string" } } },
      execute: ({ city }) => city.toUpperCase(),
    });
    expect(JSON.parse(made.message.inputSchema)).toHaveProperty("properties.city.type", "string");
  });
});
