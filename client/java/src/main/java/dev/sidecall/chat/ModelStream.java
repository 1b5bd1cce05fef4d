package dev.sidecall.chat;

import com.fasterxml.jackson.databind.JsonNode;
import com.openai.errors.OpenAIInvalidDataException;
import com.openai.errors.OpenAIIoException;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * A streamed answer of a model. The provider's library is read in a thread of its own: its waits
 * cannot be interrupted.
 */
final class ModelStream implements AutoCloseable {
  static final String BROKEN_OFF = "the model's stream broke off before its end";

  private static final int MAX_AHEAD = 64;

  private final BlockingQueue<Item> items = new ArrayBlockingQueue<>(MAX_AHEAD);
  private final Thread thread;
  private volatile boolean closed;

  /** A chunk, or an error, or with neither the end. */
  private record Item(@Nullable JsonNode chunk, @Nullable RuntimeException error) {}

  /** Reads the answer and gives each chunk to a consumer. */
  interface Source {
    void readTo(Consumer<JsonNode> chunks);
  }

  /** Ends the reading thread: nobody wants what comes. */
  private static final class ClosedException extends RuntimeException {
    private static final long serialVersionUID = 1L;
  }

  ModelStream(Source source) {
    thread = new Thread(() -> read(source), "sidecall-model");
    thread.setDaemon(true);
    thread.start();
  }

  /** Waits for the next chunk; null at the end. */
  @Nullable JsonNode next() throws InterruptedException {
    Item item = items.take();
    if (item.error() != null) {
      throw item.error();
    }
    return item.chunk();
  }

  /** Gives the answer up. The library lets go of the connection at the next byte that comes. */
  @Override
  public void close() {
    closed = true;
    thread.interrupt();
  }

  private void read(Source source) {
    Item last = new Item(null, null);
    try {
      source.readTo(chunk -> put(new Item(chunk, null)));
    } catch (ClosedException error) {
      return;
    } catch (RuntimeException error) {
      last = new Item(null, error);
    }
    try {
      put(last);
    } catch (ClosedException error) {
      return;
    }
  }

  private void put(Item item) {
    if (closed) {
      throw new ClosedException();
    }
    try {
      items.put(item);
    } catch (InterruptedException error) {
      // Only close interrupts this thread.
      throw new ClosedException();
    }
  }

  /** What the library's error says about an answer that had begun. */
  static RuntimeException translated(RuntimeException error) {
    if (error instanceof OpenAIIoException) {
      return new ModelException(BROKEN_OFF, error);
    }
    return unreadable(error);
  }

  /** What the library's error says about an answer that was read whole. */
  static RuntimeException unreadable(RuntimeException error) {
    if (error instanceof OpenAIInvalidDataException) {
      return new ModelException("the model's answer cannot be read: " + error.getMessage(), error);
    }
    return error;
  }
}
