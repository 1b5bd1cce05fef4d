package dev.sidecall.host;

import com.fasterxml.jackson.core.JsonProcessingException;
import dev.sidecall.internal.Durations;
import dev.sidecall.internal.Texts;
import dev.sidecall.v1.AttachRequest;
import dev.sidecall.v1.HostCall;
import dev.sidecall.v1.HostPartialOutput;
import dev.sidecall.v1.HostProgress;
import dev.sidecall.v1.HostResult;
import io.grpc.Context;
import io.grpc.Deadline;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/** One call on its way through a host, and what its function may know and say. */
final class HostedCall implements CallContext {
  /** Characters of partial output in one message. */
  private static final int OUTPUT_CHARS = 256 * 1024;

  private final HostCall message;
  private final Consumer<AttachRequest> reports;
  private final Context.CancellableContext context;
  // Guarded by this.
  private @Nullable Thread thread;
  private boolean over;

  /**
   * Takes a call.
   *
   * @param message the call
   * @param reports sends progress and partial output, if there is room
   * @param timers ends it when its time is over
   */
  HostedCall(HostCall message, Consumer<AttachRequest> reports, ScheduledExecutorService timers) {
    this.message = message;
    this.reports = reports;
    this.context =
        message.hasTimeout()
            ? Context.ROOT.withDeadlineAfter(
                Durations.fromProto(message.getTimeout()).toNanos(), TimeUnit.NANOSECONDS, timers)
            : Context.ROOT.withCancellation();
    context.addListener(cancelled -> interrupt(), Runnable::run);
  }

  /** Says that nobody waits for it any more; it ends when its function does. */
  void cancel() {
    context.cancel(null);
  }

  /** What it comes to where its function cannot be run any more. */
  HostResult notRun() {
    return HostResults.givenUp(false, false).toBuilder()
        .setAttemptId(message.getAttemptId())
        .build();
  }

  /**
   * Runs the function and returns what it came to.
   *
   * @param tool its tool; null where the host does not have it
   * @param slots one is held while the function runs
   */
  HostResult run(@Nullable HostedTool tool, Semaphore slots) {
    synchronized (this) {
      thread = Thread.currentThread();
    }
    try {
      HostResult result = runPrepared(tool, slots);
      return result.toBuilder().setAttemptId(message.getAttemptId()).build();
    } finally {
      synchronized (this) {
        thread = null;
        over = true;
      }
      // An interrupt was meant for this call alone.
      boolean interrupted = Thread.interrupted();
      context.cancel(interrupted ? context.cancellationCause() : null);
    }
  }

  private HostResult runPrepared(@Nullable HostedTool tool, Semaphore slots) {
    if (tool == null) {
      return HostResults.unknownTool(message.getName());
    }
    HostedTool.Invocation invocation;
    try {
      String arguments = message.getArguments();
      invocation = tool.handler().prepare(arguments.isEmpty() ? "{}" : arguments);
    } catch (JsonProcessingException error) {
      return HostResults.badArguments(error);
    }
    boolean started = false;
    boolean held = false;
    try {
      if (context.isCancelled()) {
        return givenUp(false);
      }
      slots.acquire();
      held = true;
      started = true;
      return HostResults.returned(message.getName(), context.call(() -> invocation.run(this)));
    } catch (ToolException error) {
      return HostResults.thrown(message.getName(), error);
    } catch (Throwable error) {
      // Whatever a function that was told to end throws, and an Error too, costs this call only.
      return context.isCancelled()
          ? givenUp(started)
          : HostResults.thrown(message.getName(), error);
    } finally {
      if (held) {
        slots.release();
      }
    }
  }

  @Override
  public String toolName() {
    return message.getName();
  }

  @Override
  public String callId() {
    return message.getCallId();
  }

  @Override
  public int attempt() {
    return message.getAttempt();
  }

  @Override
  public Map<String, String> context() {
    return message.getContextMap();
  }

  @Override
  public String idempotencyKey() {
    return message.getIdempotencyKey();
  }

  @Override
  public String traceparent() {
    return message.getTraceparent();
  }

  @Override
  public String tracestate() {
    return message.getTracestate();
  }

  @Override
  public Optional<Duration> remaining() {
    Deadline deadline = context.getDeadline();
    return deadline == null
        ? Optional.empty()
        : Optional.of(Duration.ofNanos(Math.max(0, deadline.timeRemaining(TimeUnit.NANOSECONDS))));
  }

  @Override
  public boolean isCancelled() {
    return context.isCancelled();
  }

  @Override
  public void progress(double done, String text) {
    report(newProgress(done, text));
  }

  @Override
  public void progress(double done, double total, String text) {
    report(newProgress(done, text).setTotal(total));
  }

  @Override
  public void partialOutput(String text) {
    String whole = Texts.escapeSurrogates(text);
    for (int start = 0; start < whole.length(); ) {
      int end = Math.min(whole.length(), start + OUTPUT_CHARS);
      if (end < whole.length() && Character.isHighSurrogate(whole.charAt(end - 1))) {
        end--;
      }
      HostPartialOutput.Builder output =
          HostPartialOutput.newBuilder()
              .setAttemptId(message.getAttemptId())
              .setText(whole.substring(start, end));
      send(AttachRequest.newBuilder().setPartialOutput(output).build());
      start = end;
    }
  }

  private HostProgress.Builder newProgress(double done, String text) {
    return HostProgress.newBuilder()
        .setAttemptId(message.getAttemptId())
        .setProgress(done)
        .setMessage(Texts.escapeSurrogates(text));
  }

  private void report(HostProgress.Builder progress) {
    send(AttachRequest.newBuilder().setProgress(progress).build());
  }

  /** What a function reports after its result goes nowhere. */
  private synchronized void send(AttachRequest report) {
    if (!over) {
      reports.accept(report);
    }
  }

  private HostResult givenUp(boolean started) {
    boolean expired = context.cancellationCause() instanceof TimeoutException;
    return HostResults.givenUp(expired, started);
  }

  private synchronized void interrupt() {
    if (thread != null) {
      thread.interrupt();
    }
  }
}
