/**
 * Client of Sidecall, a sidecar that executes the tool calls of language models.
 *
 * <p>{@link dev.sidecall.SidecallClient} is where to start. All methods that wait declare {@link
 * InterruptedException}: an interrupt cancels what they wait for. RPCs take the deadline and the
 * cancellation of {@link io.grpc.Context#current()} too, as all of gRPC does.
 */
@NullMarked
package dev.sidecall;

import org.jspecify.annotations.NullMarked;
