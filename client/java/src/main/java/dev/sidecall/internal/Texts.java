package dev.sidecall.internal;

/** Text that can be sent. */
public final class Texts {
  private Texts() {}

  /**
   * Writes lone surrogates as {@code \}{@code uXXXX}: UTF-8 has no form for them, and in JSON text
   * the escape means the same.
   *
   * @param text any text
   * @return text that UTF-8 can hold
   */
  public static String escapeSurrogates(String text) {
    int first = firstLoneSurrogate(text);
    if (first < 0) {
      return text;
    }
    StringBuilder escaped = new StringBuilder(text.length() + 16).append(text, 0, first);
    for (int at = first; at < text.length(); ) {
      int codePoint = text.codePointAt(at);
      if (isSurrogate(codePoint)) {
        escaped.append("\\u" + Integer.toHexString(codePoint));
      } else {
        escaped.appendCodePoint(codePoint);
      }
      at += Character.charCount(codePoint);
    }
    return escaped.toString();
  }

  private static int firstLoneSurrogate(String text) {
    for (int at = 0; at < text.length(); ) {
      int codePoint = text.codePointAt(at);
      if (isSurrogate(codePoint)) {
        return at;
      }
      at += Character.charCount(codePoint);
    }
    return -1;
  }

  private static boolean isSurrogate(int codePoint) {
    return codePoint >= Character.MIN_SURROGATE && codePoint <= Character.MAX_SURROGATE;
  }
}
