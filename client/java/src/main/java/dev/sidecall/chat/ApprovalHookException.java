package dev.sidecall.chat;

/**
 * The approval hook failed with a checked exception, which is the cause, or for several calls of a
 * turn, whose errors are the suppressed exceptions.
 */
public final class ApprovalHookException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  ApprovalHookException(Throwable cause) {
    super(cause.getMessage(), cause);
  }

  ApprovalHookException(String message, Iterable<RuntimeException> errors) {
    super(message);
    errors.forEach(this::addSuppressed);
  }
}
