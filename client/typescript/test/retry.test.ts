import { describe, expect, it } from "vitest";
import { SidecallError } from "../src/index.js";
import { resolveConnection } from "../src/connection.js";
import { Attempts, type AttemptsOptions } from "../src/retry.js";

function lost(notStarted = false): SidecallError {
  return new SidecallError("lost", { code: "UNAVAILABLE", notStarted });
}

function attempts(options: AttemptsOptions): Attempts {
  return new Attempts({ clock: () => 0, jitter: () => 0.5, ...options });
}

describe("Attempts", () => {
  it("pause longer each time, for as often as was asked for", () => {
    const pauses = attempts({ retries: 3, repeatable: true });
    expect([1, 2, 3, 4].map(() => pauses.delayMs(lost()))).toEqual([75, 150, 300, undefined]);
  });

  it("speak of all attempts", () => {
    const repeated = attempts({ repeatable: true });
    repeated.delayMs(lost());
    const last = lost(true);
    repeated.delayMs(last);
    expect(last.notStarted).toBe(false);
  });

  it("go on until the deadline by default once something may have been started", () => {
    let now = 0;
    const insisting = attempts({ timeoutMs: 60_000, repeatable: true, clock: () => now });
    for (let count = 0; count < 20; count += 1) {
      expect(insisting.delayMs(lost())).toBeDefined();
    }
    now = 59_999;
    expect(insisting.delayMs(lost())).toBeUndefined();
  });

  it("end where nobody can tell what has run", () => {
    expect(attempts({}).delayMs(lost())).toBeUndefined();
    expect(attempts({}).delayMs(lost(true))).toBeDefined();
  });
});

describe("resolveConnection", () => {
  it.each([
    [undefined, {}, "127.0.0.1:50071"],
    [undefined, { SIDECALL_ENDPOINT: "unix:/run/s" }, "unix:/run/s"],
    ["[::1]:1", { SIDECALL_ENDPOINT: "unix:/run/s" }, "[::1]:1"],
  ])("takes %s, then %j, then the default", (endpoint, environ, target) => {
    expect(resolveConnection({ endpoint }, environ).target).toBe(target);
  });

  it.each(["localhost", ":1", "http://a:1", "a:b"])("refuses %s", (endpoint) => {
    expect(() => resolveConnection({ endpoint }, {})).toThrow(RangeError);
  });

  it("takes the size of messages from the environment", () => {
    const environ = { SIDECALL_MAX_INBOUND_MESSAGE_BYTES: "1000" };
    expect(resolveConnection({}, environ).maxMessageBytes).toBe(1000);
    expect(resolveConnection({ maxMessageBytes: 5 }, environ).maxMessageBytes).toBe(5);
    expect(() => resolveConnection({ maxMessageBytes: 0 }, {})).toThrow("maxMessageBytes");
    expect(() => resolveConnection({ keepaliveMs: 5 }, {})).toThrow("keepaliveMs");
  });
});
