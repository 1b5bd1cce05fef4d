package dev.sidecall.chat;

/** The provider's API that a chat speaks. */
public enum ChatApi {
  /** The Chat Completions API. */
  CHAT_COMPLETIONS,
  /** The Responses API. */
  RESPONSES
}
