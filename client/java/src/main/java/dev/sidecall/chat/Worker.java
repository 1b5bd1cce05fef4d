package dev.sidecall.chat;

import java.time.Duration;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.jspecify.annotations.Nullable;

/** A task in a thread of its own, which does not keep the process from ending. */
final class Worker {
  private final FutureTask<Void> task;
  private final Thread thread;

  /** What it does. */
  interface Task {
    void run() throws InterruptedException;
  }

  private Worker(String name, Task what) {
    task =
        new FutureTask<>(
            () -> {
              what.run();
              return null;
            });
    thread = new Thread(task, name);
    thread.setDaemon(true);
  }

  static Worker start(String name, Task what) {
    Worker worker = new Worker(name, what);
    worker.thread.start();
    return worker;
  }

  boolean isDone() {
    return task.isDone();
  }

  /**
   * Waits for the end, and throws what the task failed with.
   *
   * @param bound longest time to wait; null for no bound
   * @return whether it has ended
   */
  boolean await(@Nullable Duration bound) throws InterruptedException {
    try {
      if (bound == null) {
        task.get();
      } else {
        task.get(bound.toNanos(), TimeUnit.NANOSECONDS);
      }
      return true;
    } catch (TimeoutException error) {
      return false;
    } catch (ExecutionException error) {
      if (error.getCause() instanceof RuntimeException failure) {
        throw failure;
      }
      throw new IllegalStateException("a task of the chat failed", error.getCause());
    }
  }

  /** Interrupts the task and waits until its thread has ended. */
  void stop() {
    thread.interrupt();
    boolean interrupted = false;
    while (true) {
      try {
        thread.join();
        break;
      } catch (InterruptedException error) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
