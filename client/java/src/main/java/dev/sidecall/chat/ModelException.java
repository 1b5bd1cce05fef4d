package dev.sidecall.chat;

import org.jspecify.annotations.Nullable;

/** The model's answer broke off, reported an error or cannot be read. Nothing of it was kept. */
public final class ModelException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  ModelException(String message) {
    this(message, null);
  }

  ModelException(String message, @Nullable Throwable cause) {
    super(message, cause);
  }
}
