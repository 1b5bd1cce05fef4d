/** Lines that stand in a text for what is not text. */

/** The line for binary content: "[image/png, 3412 bytes: a.png]". */
export function blobLine(mediaType: string, sizeBytes: number, name: string): string {
  return `[${mediaType}, ${sizeBytes} bytes${name ? `: ${onOneLine(name)}` : ""}]`;
}

function onOneLine(text: string): string {
  return text.trim().split(/\s+/u).join(" ");
}
