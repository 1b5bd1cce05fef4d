package dev.sidecall.chat;

/**
 * Tokens.
 *
 * @param inputTokens tokens read by the model
 * @param outputTokens tokens written by the model
 */
public record Usage(long inputTokens, long outputTokens) {
  /** No tokens. */
  public static final Usage NONE = new Usage(0, 0);

  /**
   * All tokens.
   *
   * @return their number
   */
  public long totalTokens() {
    return inputTokens + outputTokens;
  }

  /**
   * Adds tokens.
   *
   * @param other tokens
   * @return the sum
   */
  public Usage plus(Usage other) {
    return new Usage(inputTokens + other.inputTokens, outputTokens + other.outputTokens);
  }
}
