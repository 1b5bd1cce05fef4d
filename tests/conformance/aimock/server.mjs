// Serves scripts of model turns, one script after the other: a line of JSON on stdin holds the fixtures
// of the next script, and is answered with the server's URL and how many requests the last one got.
import { createInterface } from "node:readline";

import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0, strict: true, logLevel: "silent" });
await mock.start();

for await (const line of createInterface({ input: process.stdin })) {
  const requests = mock.getRequests().length;
  mock.reset();
  const { fixtures } = JSON.parse(line);
  mock.addFixtures(fixtures);
  process.stdout.write(`${JSON.stringify({ url: mock.url, requests })}\n`);
}
await mock.stop();
