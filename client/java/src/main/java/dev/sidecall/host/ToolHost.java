package dev.sidecall.host;

import dev.sidecall.Sidecall;
import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallException;
import dev.sidecall.internal.Durations;
import dev.sidecall.internal.Texts;
import dev.sidecall.v1.HostAttach;
import io.grpc.Status;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Offers functions of this process as tools of a sidecar, for as long as it is open.
 *
 * <p>It attaches to the sidecar, runs the calls that the sidecar sends, each in a thread, and
 * attaches again by itself when the connection is lost.
 */
public final class ToolHost implements AutoCloseable {
  /** Time that the sidecar has to end a stream when the host closes. */
  private static final Duration END = Duration.ofSeconds(5);

  private final CallRunner runner;
  private final HostLink link;
  private final Thread serving;
  private final Duration drainTimeout;

  private ToolHost(Builder chosen) {
    HostAttach attach = chosen.attach.build();
    drainTimeout = chosen.drainTimeout;
    runner = new CallRunner(Map.copyOf(chosen.tools), attach.getMaxConcurrency());
    link = new HostLink(chosen.client, attach, runner);
    serving = new Thread(link::serve, "sidecall-host");
    serving.setDaemon(true);
  }

  /**
   * Begins a host.
   *
   * @param client client of the sidecar, which must stay open as long as the host
   * @return a builder
   */
  public static Builder builder(SidecallClient client) {
    return new Builder(client);
  }

  /**
   * Whether the sidecar offers its tools at present.
   *
   * @return whether it does
   */
  public boolean isAttached() {
    return link.isAttached();
  }

  /**
   * Waits until the sidecar offers its tools.
   *
   * @param timeout how long to wait
   * @throws SidecallException the sidecar has refused the host for good, or it is not attached in
   *     time; the text says why the last attempt failed
   * @throws InterruptedException the thread was interrupted
   */
  public void awaitAttached(Duration timeout) throws InterruptedException {
    if (!link.awaitAttached(timeout)) {
      SidecallException why = link.failure();
      throw new SidecallException(
          "not attached after "
              + timeout
              + ": "
              + (why == null ? "the sidecar did not answer" : why.getMessage()),
          Status.Code.DEADLINE_EXCEEDED);
    }
  }

  /**
   * Waits until it serves no more: it was closed, or refused for good.
   *
   * @throws SidecallException the sidecar has refused the host for good
   * @throws InterruptedException the thread was interrupted
   */
  public void awaitClosed() throws InterruptedException {
    link.awaitEnded();
  }

  /**
   * Drains: it gets no more calls, and those in hand end, for at most the drain timeout. An
   * interrupt ends the drain at once.
   */
  @Override
  public void close() {
    boolean interrupted = false;
    try {
      if (link.drain(drainTimeout)) {
        serving.join(END.toMillis());
      }
    } catch (InterruptedException error) {
      interrupted = true;
    }
    serving.interrupt();
    runner.stop();
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** Makes a host. */
  public static final class Builder {
    private static final int MAX_CONCURRENCY = 10_000;
    private static final int MAX_NAME_BYTES = 256;

    private final SidecallClient client;
    private final Map<String, HostedTool> tools = new LinkedHashMap<>();
    private final HostAttach.Builder attach =
        HostAttach.newBuilder().setMaxConcurrency(16).setHostName(program());
    private Duration drainTimeout = Duration.ofSeconds(25);

    private Builder(SidecallClient client) {
      this.client = client;
    }

    /**
     * Adds a tool.
     *
     * @param value the tool
     * @return this
     * @throws IllegalArgumentException there is one of its name
     */
    public Builder tool(HostedTool value) {
      if (tools.putIfAbsent(value.description().getName(), value) != null) {
        throw new IllegalArgumentException("there are two tools " + value.description().getName());
      }
      attach.addTools(value.description());
      return this;
    }

    /**
     * Name of the application for people; by default the program's.
     *
     * @param value at most 256 bytes
     * @return this
     */
    public Builder name(String value) {
      if (value.getBytes(StandardCharsets.UTF_8).length > MAX_NAME_BYTES) {
        throw new IllegalArgumentException(
            "the name of a host takes at most " + MAX_NAME_BYTES + " bytes");
      }
      attach.setHostName(Texts.escapeSurrogates(value));
      return this;
    }

    /**
     * Most calls that run at a time; 16 by default.
     *
     * @param value from 1 to 10 000
     * @return this
     */
    public Builder maxConcurrency(int value) {
      if (value < 1 || value > MAX_CONCURRENCY) {
        throw new IllegalArgumentException(
            "maxConcurrency must be from 1 to " + MAX_CONCURRENCY + ", not " + value);
      }
      attach.setMaxConcurrency(value);
      return this;
    }

    /**
     * Time that calls get to end when the host closes; 25 seconds by default.
     *
     * @param value positive
     * @return this
     */
    public Builder drainTimeout(Duration value) {
      drainTimeout = Durations.positive("drainTimeout", value);
      return this;
    }

    /**
     * Begins to attach. It does not wait for the sidecar.
     *
     * @return the host
     */
    public ToolHost start() {
      attach
          .setUserAgent("sidecall-java/" + Sidecall.VERSION)
          .setMaxMessageBytes(client.maxMessageBytes());
      ToolHost host = new ToolHost(this);
      host.serving.start();
      return host;
    }

    private static String program() {
      String command = System.getProperty("sun.java.command", "java").split(" ", 2)[0];
      String name = command.substring(command.lastIndexOf('/') + 1);
      return name.substring(0, Math.min(64, name.length())) + " " + ProcessHandle.current().pid();
    }
  }
}
