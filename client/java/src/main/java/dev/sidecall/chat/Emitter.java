package dev.sidecall.chat;

import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/** Tells a hook of events, one at a time. */
final class Emitter {
  private final @Nullable Consumer<ChatEvent> hook;
  private final ReentrantLock turnTaking = new ReentrantLock();
  private volatile @Nullable Throwable raised;

  /**
   * Tells a hook.
   *
   * @param hook is told; null for nobody
   */
  Emitter(@Nullable Consumer<ChatEvent> hook) {
    this.hook = hook;
  }

  /** Whether the hook is busy with an event. */
  boolean isTelling() {
    return turnTaking.isLocked();
  }

  /** Tells the hook. */
  void emit(ChatEvent event) {
    if (hook == null) {
      return;
    }
    turnTaking.lock();
    try {
      hook.accept(event);
    } catch (RuntimeException error) {
      raised = error;
      throw error;
    } finally {
      turnTaking.unlock();
    }
  }

  /** Tells the hook of an error, except of one that it raised itself. */
  @SuppressWarnings("ReferenceEquality") // The very error is meant.
  void report(int turn, RuntimeException error) {
    if (error != raised) {
      emit(new ChatEvent.ErrorOccurred(turn, error));
    }
  }
}
