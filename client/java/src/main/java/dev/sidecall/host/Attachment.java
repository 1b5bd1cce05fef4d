package dev.sidecall.host;

import dev.sidecall.SidecallException;
import dev.sidecall.internal.Duplex;
import dev.sidecall.internal.Durations;
import dev.sidecall.v1.AttachRequest;
import dev.sidecall.v1.AttachResponse;
import dev.sidecall.v1.HostAttach;
import dev.sidecall.v1.HostAttached;
import dev.sidecall.v1.HostCall;
import dev.sidecall.v1.HostDrain;
import dev.sidecall.v1.HostHeartbeat;
import dev.sidecall.v1.HostResult;
import dev.sidecall.v1.ToolHostServiceGrpc.ToolHostServiceStub;
import io.grpc.Status;
import java.lang.System.Logger.Level;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.jspecify.annotations.Nullable;

/** One stream on which a host is attached to a sidecar, from its acceptance to its end. */
final class Attachment {
  private static final System.Logger LOG = System.getLogger("dev.sidecall.host");

  /** Time that a sidecar may take to accept a host. */
  private static final Duration ATTACH = Duration.ofSeconds(30);

  /** Time for calls that the sidecar sent before it heard of a drain. */
  private static final Duration CROSSING = Duration.ofMillis(100);

  private final Duplex<AttachRequest, AttachResponse> rpc;
  private final HostAttached attached;
  private final CallRunner runner;
  private final long maxBytes;
  private volatile long lastSentNanos = System.nanoTime();
  // Guarded by this.
  private final Map<Long, HostedCall> inHand = new HashMap<>();
  private boolean sidecarDrains;
  private boolean closed;

  private Attachment(
      Duplex<AttachRequest, AttachResponse> rpc,
      HostAttached attached,
      CallRunner runner,
      long maxMessageBytes) {
    this.rpc = rpc;
    this.attached = attached;
    this.runner = runner;
    long theirs = attached.getMaxMessageBytes();
    this.maxBytes = theirs > 0 ? Math.min(theirs, maxMessageBytes) : maxMessageBytes;
  }

  /** Attaches on a new stream. */
  static Attachment attach(ToolHostServiceStub stub, HostAttach attach, CallRunner runner)
      throws InterruptedException {
    Duplex<AttachRequest, AttachResponse> rpc = new Duplex<>();
    boolean accepted = false;
    try {
      stub.attach(rpc);
      rpc.write(AttachRequest.newBuilder().setAttach(attach).build());
      // Nothing is sent before the answer: gRPC loses the reason of a refusal that crosses a
      // message.
      AttachResponse answer = rpc.read(ATTACH.toNanos());
      if (answer == null || !answer.hasAttached()) {
        throw new SidecallException(
            "the sidecar did not say that the host is attached", Status.Code.INTERNAL);
      }
      accepted = true;
      return new Attachment(rpc, answer.getAttached(), runner, attach.getMaxMessageBytes());
    } catch (Duplex.EndedException ended) {
      throw errorOf(ended);
    } catch (TimeoutException error) {
      throw new SidecallException(
          "the sidecar did not answer within " + ATTACH.toSeconds() + " s",
          Status.Code.UNAVAILABLE);
    } finally {
      if (!accepted) {
        rpc.cancel("the host is not attached");
      }
    }
  }

  String hostId() {
    return attached.getHostId();
  }

  /**
   * Runs calls until the stream ends.
   *
   * @return why it did not end in order; null where it did
   */
  @Nullable SidecallException serve() throws InterruptedException {
    try {
      return read();
    } catch (Duplex.EndedException ended) {
      return errorOf(ended);
    } finally {
      rpc.cancel("the host is detached");
      List<HostedCall> left;
      synchronized (this) {
        closed = true;
        left = new ArrayList<>(inHand.values());
        inHand.clear();
        notifyAll();
      }
      left.forEach(HostedCall::cancel);
    }
  }

  /**
   * Asks for no more calls, waits for those in hand and half-closes then. Calls that have not ended
   * in time are answered as abandoned.
   */
  void drain(Duration timeout) throws InterruptedException {
    send(AttachRequest.newBuilder().setDrain(HostDrain.getDefaultInstance()).build());
    long endNanos = System.nanoTime() + timeout.toNanos();
    try {
      Duration crossing = CROSSING.compareTo(timeout) < 0 ? CROSSING : timeout;
      TimeUnit.NANOSECONDS.sleep(crossing.toNanos());
      synchronized (this) {
        for (long left = endNanos - System.nanoTime();
            !inHand.isEmpty() && left > 0;
            left = endNanos - System.nanoTime()) {
          TimeUnit.NANOSECONDS.timedWait(this, left);
        }
      }
    } finally {
      abandon();
      halfClose();
    }
  }

  private synchronized void abandon() {
    for (Map.Entry<Long, HostedCall> each : new HashMap<>(inHand).entrySet()) {
      LOG.log(
          Level.WARNING,
          "a function that still runs is abandoned: {0}",
          each.getValue().toolName());
      answer(HostResults.abandoned().toBuilder().setAttemptId(each.getKey()).build());
    }
  }

  private @Nullable SidecallException read() throws Duplex.EndedException, InterruptedException {
    long beatNanos = nanosOf(attached.getHeartbeatInterval());
    long silenceNanos = nanosOf(attached.getSilenceTimeout());
    long lastHeardNanos = System.nanoTime();
    while (true) {
      long now = System.nanoTime();
      long beatIn = beatNanos - (now - lastSentNanos);
      long silenceIn = silenceNanos - (now - lastHeardNanos);
      if (silenceIn <= 0) {
        Duration silence = Durations.fromProto(attached.getSilenceTimeout());
        return new SidecallException(
            "nothing was heard of the sidecar for " + silence, Status.Code.UNAVAILABLE);
      }
      if (beatIn <= 0) {
        send(AttachRequest.newBuilder().setHeartbeat(HostHeartbeat.getDefaultInstance()).build());
        continue;
      }
      try {
        AttachResponse message = rpc.read(Math.min(beatIn, silenceIn));
        if (message == null) {
          return null;
        }
        lastHeardNanos = System.nanoTime();
        handle(message);
      } catch (TimeoutException error) {
        LOG.log(Level.TRACE, "nothing to read");
      }
    }
  }

  private void handle(AttachResponse message) {
    switch (message.getMessageCase()) {
      case CALL -> start(message.getCall());
      case CANCEL -> {
        HostedCall call;
        synchronized (this) {
          call = inHand.get(message.getCancel().getAttemptId());
        }
        if (call != null) {
          call.cancel();
        }
      }
      case DRAINING -> {
        LOG.log(Level.INFO, "the sidecar shuts down; calls in hand are finished");
        synchronized (this) {
          sidecarDrains = true;
        }
        halfCloseIfDrained();
      }
      case ATTACHED, HEARTBEAT, MESSAGE_NOT_SET -> {
        // Heard, which is all that they are for.
      }
    }
  }

  private void start(HostCall message) {
    HostedCall call = runner.prepare(message, report -> report(report));
    synchronized (this) {
      if (closed || inHand.putIfAbsent(message.getAttemptId(), call) != null) {
        LOG.log(
            Level.ERROR,
            "a call of {0} came twice, or after the drain, and is not run",
            message.getName());
        return;
      }
    }
    runner.start(call, this::answer);
  }

  private synchronized void answer(HostResult result) {
    if (inHand.remove(result.getAttemptId()) != null) {
      send(HostResults.fitting(result, maxBytes));
      notifyAll();
      halfCloseIfDrained();
    }
  }

  private synchronized void halfCloseIfDrained() {
    if (sidecarDrains && inHand.isEmpty()) {
      halfClose();
    }
  }

  private synchronized void halfClose() {
    closed = true;
    rpc.halfClose();
  }

  private void send(AttachRequest message) {
    lastSentNanos = System.nanoTime();
    rpc.offer(message, false);
  }

  private void report(AttachRequest report) {
    if (report.getSerializedSize() <= maxBytes && rpc.offer(report, true)) {
      lastSentNanos = System.nanoTime();
    }
  }

  private static SidecallException errorOf(Duplex.EndedException ended) {
    return SidecallException.fromRpc(ended.status().asRuntimeException(ended.trailers()));
  }

  private static long nanosOf(com.google.protobuf.Duration duration) {
    long nanos = Durations.fromProto(duration).toNanos();
    return nanos > 0 ? nanos : Long.MAX_VALUE / 2;
  }
}
