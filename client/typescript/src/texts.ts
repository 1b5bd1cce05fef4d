/** Texts that differ between languages: surrogates, and order by code point. */

/**
 * Writes lone surrogates as `\uXXXX`: UTF-8 has no form for them, and in JSON text the escape
 * means the same.
 */
export function escapeSurrogates(text: string): string {
  if (text.isWellFormed()) return text;
  return text.replace(/\p{Surrogate}/gu, (lone) => `\\u${lone.charCodeAt(0).toString(16)}`);
}

/** Orders texts by code point, as UTF-8 does and JavaScript by itself does not. */
export function byCodePoint(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
