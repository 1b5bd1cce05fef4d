package dev.sidecall.host;

import dev.sidecall.v1.AttachRequest;
import dev.sidecall.v1.HostCall;
import dev.sidecall.v1.HostResult;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;

/**
 * Runs calls, at most so many at a time.
 *
 * <p>Calls outlast the stream that brought them where their functions do not end when they are told
 * to: they keep their slots, so that a host never runs more than it says.
 */
final class CallRunner {
  private static final long LAST_WORDS_MS = 500;

  private final Map<String, HostedTool> tools;
  private final Semaphore slots;
  private final ExecutorService threads = Executors.newCachedThreadPool(named("sidecall-call-"));
  private final ScheduledExecutorService timers =
      Executors.newSingleThreadScheduledExecutor(named("sidecall-timer-"));
  private final Set<HostedCall> running = ConcurrentHashMap.newKeySet();

  /**
   * Prepares to run calls.
   *
   * @param tools the tools, by name
   * @param maxConcurrency most calls that run at a time
   */
  CallRunner(Map<String, HostedTool> tools, int maxConcurrency) {
    this.tools = tools;
    this.slots = new Semaphore(maxConcurrency);
  }

  /** Takes a call; its time runs from now. */
  HostedCall prepare(HostCall message, Consumer<AttachRequest> reports) {
    return new HostedCall(message, reports, timers);
  }

  /** Starts a call; its result is given to {@code done}. */
  void start(HostedCall call, Consumer<HostResult> done) {
    running.add(call);
    try {
      threads.execute(
          () -> {
            HostResult result = call.run(tools.get(call.toolName()), slots);
            running.remove(call);
            done.accept(result);
          });
    } catch (RejectedExecutionException error) {
      // It came while the host was closed.
      running.remove(call);
      done.accept(call.notRun());
    }
  }

  /** Cancels what runs, and waits a moment for it; what does not end even so is left behind. */
  void stop() {
    running.forEach(HostedCall::cancel);
    threads.shutdown();
    timers.shutdownNow();
    try {
      threads.awaitTermination(LAST_WORDS_MS, TimeUnit.MILLISECONDS);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }

  private static ThreadFactory named(String prefix) {
    AtomicInteger number = new AtomicInteger();
    return work -> {
      Thread thread = new Thread(work, prefix + number.incrementAndGet());
      thread.setDaemon(true);
      return thread;
    };
  }
}
