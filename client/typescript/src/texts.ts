/** Texts as other languages have them too: surrogates, order by code point, quotes. */

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

const SHORT_ESCAPES: Readonly<Record<string, string>> = {
  "\\": "\\\\",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

/** A name in quotes; what cannot be printed is escaped. */
export function quoted(name: string): string {
  const quote = name.includes("'") && !name.includes('"') ? '"' : "'";
  const escaped = name.replace(/[\\'"]|\p{C}|[^\P{Z} ]/gu, (character) => {
    const short = SHORT_ESCAPES[character];
    if (short) return short;
    if (character === quote) return `\\${character}`;
    return character === "'" || character === '"' ? character : escapeOf(character);
  });
  return quote + escaped + quote;
}

function escapeOf(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  const hex = (length: number): string => code.toString(16).padStart(length, "0");
  if (code <= 0xff) return `\\x${hex(2)}`;
  return code <= 0xffff ? `\\u${hex(4)}` : `\\U${hex(8)}`;
}
