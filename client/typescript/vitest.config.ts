import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Reached only where something is broken: a slow machine fails no test.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
