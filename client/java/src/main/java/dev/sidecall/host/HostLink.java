package dev.sidecall.host;

import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallException;
import dev.sidecall.v1.HostAttach;
import dev.sidecall.v1.ToolHostServiceGrpc;
import dev.sidecall.v1.ToolHostServiceGrpc.ToolHostServiceStub;
import io.grpc.Status;
import java.lang.System.Logger.Level;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/** Attaches a host, and attaches it again whenever its stream has ended. */
final class HostLink {
  private static final System.Logger LOG = System.getLogger("dev.sidecall.host");

  /** Bytes of progress and partial output that may wait; more is dropped. */
  private static final int MAX_REPORT_BYTES = 4 * 1024 * 1024;

  private static final Set<Status.Code> REFUSALS =
      Set.of(
          Status.Code.ALREADY_EXISTS,
          Status.Code.INVALID_ARGUMENT,
          Status.Code.PERMISSION_DENIED,
          Status.Code.UNAUTHENTICATED,
          Status.Code.UNIMPLEMENTED);

  private final ToolHostServiceStub stub;
  private final HostAttach attach;
  private final CallRunner runner;
  private final Backoff backoff = new Backoff(System::nanoTime, Math::random);
  // Guarded by this.
  private @Nullable Attachment attachment;
  private @Nullable SidecallException failure;
  private @Nullable SidecallException refusal;
  private boolean closing;
  private boolean ended;
  private boolean told;

  HostLink(SidecallClient client, HostAttach attach, CallRunner runner) {
    this.stub =
        ToolHostServiceGrpc.newStub(client.channel()).withOnReadyThreshold(MAX_REPORT_BYTES);
    this.attach = attach;
    this.runner = runner;
  }

  synchronized boolean isAttached() {
    return attachment != null;
  }

  /** Serves until it has drained, was refused for good or is interrupted. */
  void serve() {
    try {
      while (!isClosing()) {
        SidecallException why = serveOnce();
        synchronized (this) {
          failure = why;
        }
        pause(why);
      }
    } catch (InterruptedException error) {
      LOG.log(Level.DEBUG, "the host was told to end");
    } catch (SidecallException error) {
      LOG.log(Level.ERROR, "the sidecar refuses host " + attach.getHostName(), error);
      synchronized (this) {
        refusal = error;
      }
    } finally {
      synchronized (this) {
        ended = true;
        notifyAll();
      }
    }
  }

  /**
   * Finishes the calls in hand, for at most so long; then {@code serve} returns soon.
   *
   * @return whether the host was attached; else there is nothing to wait for
   */
  boolean drain(Duration timeout) throws InterruptedException {
    Attachment current;
    synchronized (this) {
      closing = true;
      notifyAll();
      current = attachment;
    }
    if (current == null) {
      return false;
    }
    current.drain(timeout);
    return true;
  }

  /**
   * Waits until it is attached, or has ended.
   *
   * @return whether it is attached
   * @throws SidecallException it was refused for good
   */
  synchronized boolean awaitAttached(Duration bound) throws InterruptedException {
    waitWhile(bound, () -> attachment == null && !ended);
    throwRefusal();
    return attachment != null;
  }

  /**
   * Waits until it serves no more.
   *
   * @throws SidecallException it was refused for good
   */
  synchronized void awaitEnded() throws InterruptedException {
    while (!ended) {
      wait();
    }
    throwRefusal();
  }

  /** Why the last attempt failed, or attachment ended; null for no reason. */
  synchronized @Nullable SidecallException failure() {
    return failure;
  }

  private interface Condition {
    boolean holds();
  }

  private synchronized void waitWhile(Duration bound, Condition condition)
      throws InterruptedException {
    long endNanos = System.nanoTime() + bound.toNanos();
    for (long left = bound.toNanos();
        condition.holds() && left > 0;
        left = endNanos - System.nanoTime()) {
      TimeUnit.NANOSECONDS.timedWait(this, left);
    }
  }

  private void throwRefusal() {
    if (refusal != null) {
      throw refusal;
    }
  }

  private synchronized boolean isClosing() {
    return closing;
  }

  /** One attachment; returns why there was none, or why it ended out of order. */
  private @Nullable SidecallException serveOnce() throws InterruptedException {
    Attachment current;
    try {
      current = Attachment.attach(stub, attach, runner);
    } catch (SidecallException error) {
      if (isRefusal(error)) {
        throw error;
      }
      return error;
    } catch (RuntimeException error) {
      // The client's own token or metadata cannot be had at present.
      return new SidecallException(String.valueOf(error), Status.Code.UNAVAILABLE);
    }
    LOG.log(Level.INFO, "attached as {0}", current.hostId());
    backoff.attached();
    synchronized (this) {
      told = false;
      attachment = current;
      notifyAll();
    }
    try {
      return current.serve();
    } finally {
      synchronized (this) {
        attachment = null;
        notifyAll();
      }
    }
  }

  private synchronized void pause(@Nullable SidecallException why) throws InterruptedException {
    if (closing) {
      return;
    }
    // Once is enough: a sidecar may be away for hours.
    LOG.log(
        told ? Level.DEBUG : Level.WARNING,
        "not attached, trying again: {0}",
        why == null ? "the sidecar ended the stream" : why.getMessage());
    told = true;
    Duration retryAfter = why == null ? Duration.ZERO : why.retryAfter().orElse(Duration.ZERO);
    waitWhile(backoff.next(retryAfter), () -> !closing);
  }

  /** Whether attaching again in the same way has the same end. */
  private static boolean isRefusal(SidecallException error) {
    if (error.code() == Status.Code.RESOURCE_EXHAUSTED) {
      // gRPC's own has no reason: the offer is larger than a message may be.
      return error.reason().isEmpty();
    }
    return REFUSALS.contains(error.code());
  }
}
