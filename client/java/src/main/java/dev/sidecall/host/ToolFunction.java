package dev.sidecall.host;

import org.jspecify.annotations.Nullable;

/**
 * A function that is a tool.
 *
 * @param <A> its arguments: a record, or {@code JsonNode}
 */
@FunctionalInterface
public interface ToolFunction<A> {
  /**
   * Runs a call, in a thread of its own.
   *
   * <p>When the call is cancelled, or its time is over, the thread is interrupted, and so is {@link
   * io.grpc.Context#current()}, which other gRPC clients obey.
   *
   * @param arguments the arguments, valid and with defaults applied
   * @param context what is known about the call
   * @return a string, a {@link Part} or a list of them, null for nothing, or whatever else Jackson
   *     writes as JSON
   * @throws ToolException what the model is told
   * @throws Exception what it is not told: it learns that the tool failed
   */
  @Nullable Object call(A arguments, CallContext context) throws Exception;
}
