package dev.sidecall.internal;

import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * Both directions of a bidirectional RPC for code that blocks. Any thread may write; one reads.
 *
 * @param <Q> what is sent
 * @param <P> what is received
 */
public final class Duplex<Q, P> implements ClientResponseObserver<Q, P> {
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private final Queue<P> inbox = new ArrayDeque<>();
  private @Nullable ClientCallStreamObserver<Q> requests;
  private @Nullable EndedException end;
  private boolean halfClosed;

  /** Makes both directions; gRPC is given them as the observer of the responses. */
  public Duplex() {}

  /** The RPC is over. */
  public static final class EndedException extends Exception {
    private static final long serialVersionUID = 1L;

    private final transient Status status;
    private final transient @Nullable Metadata trailers;

    EndedException(Status status, @Nullable Metadata trailers) {
      super(status.toString(), status.getCause());
      this.status = status;
      this.trailers = trailers;
    }

    /**
     * What it ended with.
     *
     * @return the status
     */
    public Status status() {
      return status;
    }

    /**
     * What came with the status.
     *
     * @return the trailers; null where there are none
     */
    public @Nullable Metadata trailers() {
      return trailers;
    }
  }

  @Override
  public void beforeStart(ClientCallStreamObserver<Q> stream) {
    requests = stream;
    // One message at a time: who reads slowly slows the sender down.
    stream.disableAutoRequestWithInitial(1);
    stream.setOnReadyHandler(this::signal);
  }

  @Override
  public void onNext(P message) {
    lock.lock();
    try {
      inbox.add(message);
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  @Override
  public void onError(Throwable error) {
    end(new EndedException(Status.fromThrowable(error), Status.trailersFromThrowable(error)));
  }

  @Override
  public void onCompleted() {
    end(new EndedException(Status.OK, null));
  }

  /**
   * Sends a message, when there is room for it.
   *
   * @param message the message
   * @throws EndedException the RPC is over
   * @throws InterruptedException the thread was interrupted
   */
  public void write(Q message) throws EndedException, InterruptedException {
    lock.lockInterruptibly();
    try {
      while (end == null && !stream().isReady()) {
        changed.await();
      }
      if (end != null) {
        throw end;
      }
      stream().onNext(message);
    } finally {
      lock.unlock();
    }
  }

  /**
   * Sends a message without waiting.
   *
   * @param message the message
   * @param ifRoom whether only where there is room for it; else gRPC keeps it until there is
   * @return whether it was sent; an RPC that is over takes nothing
   */
  public boolean offer(Q message, boolean ifRoom) {
    lock.lock();
    try {
      boolean takes = end == null && !halfClosed && (!ifRoom || stream().isReady());
      if (takes) {
        stream().onNext(message);
      }
      return takes;
    } finally {
      lock.unlock();
    }
  }

  /**
   * Waits for a message.
   *
   * @return the message; null where the RPC has ended OK
   * @throws EndedException the RPC has failed
   * @throws InterruptedException the thread was interrupted
   */
  public @Nullable P read() throws EndedException, InterruptedException {
    try {
      return read(Long.MAX_VALUE);
    } catch (TimeoutException error) {
      throw new IllegalStateException("an unbounded wait has no end", error);
    }
  }

  /**
   * Waits for a message.
   *
   * @param boundNanos longest time to wait
   * @return the message; null where the RPC has ended OK
   * @throws EndedException the RPC has failed
   * @throws TimeoutException none came in time
   * @throws InterruptedException the thread was interrupted
   */
  public @Nullable P read(long boundNanos)
      throws EndedException, InterruptedException, TimeoutException {
    lock.lockInterruptibly();
    try {
      long leftNanos = boundNanos;
      while (inbox.isEmpty() && end == null) {
        if (leftNanos <= 0) {
          throw new TimeoutException();
        }
        leftNanos = changed.awaitNanos(leftNanos);
      }
      P message = inbox.poll();
      if (message != null) {
        stream().request(1);
      } else if (end != null && !end.status().isOk()) {
        throw end;
      }
      return message;
    } finally {
      lock.unlock();
    }
  }

  /** Says that nothing more is sent. */
  public void halfClose() {
    lock.lock();
    try {
      if (end == null && !halfClosed) {
        halfClosed = true;
        stream().onCompleted();
      }
    } finally {
      lock.unlock();
    }
  }

  /**
   * Cancels the RPC where it is not over.
   *
   * @param why why, for its error
   */
  public void cancel(String why) {
    lock.lock();
    try {
      if (end == null && requests != null) {
        requests.cancel(why, null);
      }
    } finally {
      lock.unlock();
    }
  }

  private ClientCallStreamObserver<Q> stream() {
    if (requests == null) {
      throw new IllegalStateException("the RPC was not started");
    }
    return requests;
  }

  private void end(EndedException ended) {
    lock.lock();
    try {
      end = ended;
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  private void signal() {
    lock.lock();
    try {
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }
}
