/** Names of tools and the names that a provider accepts for them. */

import { createHash } from "node:crypto";
import { byCodePoint } from "./texts.js";

const ACCEPTED = /^[a-zA-Z0-9_-]{1,64}$/;
const REFUSED_CHARACTER = /[^a-zA-Z0-9_-]/gu;
const MAX_LENGTH = 64;
const MIN_HASH_LENGTH = 8;
const SPEAKER_PREFIX = "functions.";

/**
 * Names of tools and the names that a provider accepts for them, there and back.
 *
 * An accepted name stays as it is. In others each refused character becomes "_"; where the
 * outcome is too long or not unique, a short hash of the name ends it. The order of the names
 * does not matter.
 */
export class ToolNames {
  readonly #toProvider = new Map<string, string>();
  readonly #toTool = new Map<string, string>();

  constructor(names: Iterable<string>) {
    const known = [...new Set(names)].sort(byCodePoint);
    const others = known.filter((name) => !ACCEPTED.test(name));
    const taken = new Set(known.filter((name) => ACCEPTED.test(name)));
    for (const name of taken) this.#toProvider.set(name, name);
    const wanted = new Map<string, number>();
    for (const name of others) wanted.set(plain(name), (wanted.get(plain(name)) ?? 0) + 1);
    for (const name of others) {
      const candidate = plain(name);
      const unique = wanted.get(candidate) === 1 && !taken.has(candidate);
      if (unique && ACCEPTED.test(candidate)) this.#toProvider.set(name, candidate);
    }
    for (const candidate of this.#toProvider.values()) taken.add(candidate);
    for (const name of others) {
      if (this.#toProvider.has(name)) continue;
      const candidate = hashed(name, taken);
      this.#toProvider.set(name, candidate);
      taken.add(candidate);
    }
    for (const [name, provider] of this.#toProvider) this.#toTool.set(provider, name);
  }

  /** All names that the provider is given, sorted. */
  get providerNames(): string[] {
    return [...this.#toTool.keys()].sort(byCodePoint);
  }

  /** Whether there is a tool of that name. */
  has(name: string): boolean {
    return this.#toProvider.has(name);
  }

  /**
   * Returns the provider's name of a tool.
   *
   * @throws RangeError: There is no such tool.
   */
  toProvider(name: string): string {
    const provider = this.#toProvider.get(name);
    if (provider === undefined) throw new RangeError(`there is no tool ${JSON.stringify(name)}`);
    return provider;
  }

  /** Returns the tool that a model means; a name that nobody knows stays as it is. */
  toTool(name: string): string {
    const tool = this.#toTool.get(name);
    if (tool !== undefined) return tool;
    if (!this.#toProvider.has(name) && name.startsWith(SPEAKER_PREFIX)) {
      const bare = name.slice(SPEAKER_PREFIX.length);
      const meant = this.#toTool.get(bare);
      if (meant !== undefined || this.#toProvider.has(bare)) return meant ?? bare;
    }
    return name;
  }
}

function plain(name: string): string {
  return name.replace(REFUSED_CHARACTER, "_");
}

function hashed(name: string, taken: ReadonlySet<string>): string {
  const digest = createHash("sha256").update(name).digest("hex");
  for (let length = MIN_HASH_LENGTH; length < MAX_LENGTH; length += 1) {
    const candidate = `${plain(name).slice(0, MAX_LENGTH - length - 1)}_${digest.slice(0, length)}`;
    if (!taken.has(candidate)) return candidate;
  }
  throw new RangeError(`no name is free for the tool ${JSON.stringify(name)}`);
}
