package dev.sidecall.chat;

/** What a chunk of a streamed answer brought. */
sealed interface StreamPart {
  /** A piece of text, or of a refusal. */
  record TextPart(String text, boolean isRefusal) implements StreamPart {}

  /** The model has finished a call, although its turn goes on. */
  record CallDone(ModelCall call) implements StreamPart {}

  /** More of a call arrived after it had been reported as done. */
  record CallReopened() implements StreamPart {}
}
