package dev.sidecall.conformance;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.host.CallContext;
import dev.sidecall.host.HostedTool;
import dev.sidecall.host.Part;
import dev.sidecall.host.ToolException;
import dev.sidecall.host.ToolFunction;
import dev.sidecall.v1.Effects;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.jspecify.annotations.Nullable;

/** The fixed tools of the suite's host. */
final class HostTools {
  private static final Effects READ_ONLY = Effects.EFFECTS_READ_ONLY;
  private static final Effects UNSAFE = Effects.EFFECTS_NON_IDEMPOTENT;
  private static final byte[] PNG = {(byte) 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

  private HostTools() {}

  record Text(String text) {}

  record Addends(long a, long b) {}

  record Nothing() {}

  record Steps(int steps) {}

  record Name(String name) {}

  record Failure(
      String code, String message, @JsonProperty("retry_after_ms") @Nullable Long retryAfterMs) {}

  record Size(int size) {}

  /** All of them; {@code log} takes what they log. */
  static List<HostedTool> all(List<String> log) {
    return List.of(
        tool("host_echo", READ_ONLY, Text.class, (in, call) -> in.text()),
        tool("host_add", READ_ONLY, Addends.class, (in, call) -> Map.of("sum", in.a() + in.b())),
        tool("host_nothing", Effects.EFFECTS_IDEMPOTENT, Nothing.class, (in, call) -> null),
        tool("host_parts", READ_ONLY, Nothing.class, (in, call) -> parts()),
        tool("host_progress", READ_ONLY, Steps.class, HostTools::progress),
        tool("host_wait", UNSAFE, Name.class, (in, call) -> await(in, call, log)),
        tool("host_fail", UNSAFE, Failure.class, HostTools::fail),
        tool("host_crash", UNSAFE, Text.class, HostTools::crash),
        tool("host_large", READ_ONLY, Size.class, (in, call) -> "x".repeat(in.size())),
        tool("host_context", READ_ONLY, Nothing.class, (in, call) -> told(call)));
  }

  private static <A> HostedTool tool(
      String name, Effects effects, Class<A> arguments, ToolFunction<A> function) {
    return HostedTool.builder(name, "Conformance tool " + name + ".")
        .effects(effects)
        .function(arguments, function);
  }

  private static List<Part> parts() {
    return List.of(
        Part.text("two parts"),
        Part.blob("image/png", PNG, "dot.png"),
        Part.link("https://example.com/a", "text/html", "a"));
  }

  private static Object progress(Steps in, CallContext call) {
    for (int step = 1; step <= in.steps(); step++) {
      call.progress(step, in.steps(), "step " + step);
      call.partialOutput("part " + step + ";");
    }
    return "done";
  }

  private static Object await(Name in, CallContext call, List<String> log)
      throws InterruptedException {
    call.progress(1, "waiting");
    try {
      new CountDownLatch(1).await();
    } catch (InterruptedException error) {
      log.add("host_wait " + in.name() + " cancelled");
      throw error;
    }
    return "done";
  }

  private static Object fail(Failure in, CallContext call) throws ToolException {
    long millis = in.retryAfterMs() == null ? 0 : in.retryAfterMs();
    Duration retryAfter = millis == 0 ? null : Duration.ofMillis(millis);
    throw new ToolException(in.message(), Status.Code.valueOf(in.code()), retryAfter);
  }

  private static Object crash(Text in, CallContext call) {
    throw new IllegalStateException(in.text());
  }

  private static ObjectNode told(CallContext call) {
    ObjectNode told = Runner.JSON.createObjectNode();
    told.set("context", Runner.JSON.valueToTree(call.context()));
    return told.put("call_id", call.callId())
        .put("attempt", call.attempt())
        .put("idempotency_key", call.idempotencyKey())
        .put("traceparent", call.traceparent())
        .put("has_deadline", call.remaining().isPresent());
  }
}
