/** Attaches tools. */

import type { Json, Request } from "./protocol.js";

/** Attaches one host at a time. */
export class Hosts {
  run(request: Request): Json {
    return { unsupported: `no host to ${request.kind}` };
  }

  async close(): Promise<void> {}
}
