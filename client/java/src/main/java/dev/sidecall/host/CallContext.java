package dev.sidecall.host;

import java.time.Duration;
import java.util.Map;
import java.util.Optional;

/** What a function may know and say about the call that it runs. Any thread may use it. */
public interface CallContext {
  /**
   * Name of the tool.
   *
   * @return the name
   */
  String toolName();

  /**
   * Id that the model's provider gave the call.
   *
   * @return the id; may be empty
   */
  String callId();

  /**
   * Number of the attempt of this call.
   *
   * @return the number, counted from 1
   */
  int attempt();

  /**
   * Facts about the end user, which the model does not see.
   *
   * @return the facts
   */
  Map<String, String> context();

  /**
   * Key that tells a repeated call from a new one, to be passed on.
   *
   * @return the key; empty where there is none
   */
  String idempotencyKey();

  /**
   * Trace that the call belongs to (W3C Trace Context).
   *
   * @return the {@code traceparent}; empty without one
   */
  String traceparent();

  /**
   * Trace that the call belongs to (W3C Trace Context).
   *
   * @return the {@code tracestate}; empty without one
   */
  String tracestate();

  /**
   * Time until the attempt must end.
   *
   * @return the time, never negative; empty for no bound
   */
  Optional<Duration> remaining();

  /**
   * Whether nobody waits for the result any more.
   *
   * @return whether the call was cancelled or its time is over
   */
  boolean isCancelled();

  /**
   * Reports progress.
   *
   * @param done work done so far, in the tool's own unit
   * @param message what the tool is doing; may be empty
   */
  void progress(double done, String message);

  /**
   * Reports progress.
   *
   * @param done work done so far, in the tool's own unit
   * @param total all of the work in the same unit
   * @param message what the tool is doing; may be empty
   */
  void progress(double done, double total, String message);

  /**
   * Passes on output for people who watch, before the end. It may be left out where it comes faster
   * than it is read; the result holds the whole output.
   *
   * @param text the part
   */
  void partialOutput(String text);
}
