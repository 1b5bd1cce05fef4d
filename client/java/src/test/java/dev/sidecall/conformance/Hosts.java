package dev.sidecall.conformance;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallException;
import dev.sidecall.host.ToolHost;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.jspecify.annotations.Nullable;

/** Attaches one host at a time. */
final class Hosts {
  private static final Duration ATTACH = Duration.ofSeconds(30);

  private final List<String> log = new CopyOnWriteArrayList<>();
  private @Nullable SidecallClient client;
  private @Nullable ToolHost host;

  /** Starts or stops the host of a request. */
  ObjectNode run(JsonNode request) throws IOException, InterruptedException {
    ObjectNode answer = Runner.JSON.createObjectNode();
    if (request.path("action").asText().equals("stop")) {
      close();
      ArrayNode lines = answer.put("outcome", "stopped").putArray("log");
      log.forEach(lines::add);
      return answer;
    }
    log.clear();
    try {
      start(request);
      answer.put("outcome", "attached");
    } catch (SidecallException | IllegalArgumentException error) {
      close();
      answer.put("outcome", "error").set("error", Clients.errorOf(error));
    }
    return answer;
  }

  private void start(JsonNode request) throws IOException, InterruptedException {
    client = Clients.clientOf(request.path("sidecar"));
    ToolHost.Builder builder = ToolHost.builder(client).name(request.path("host_name").asText());
    if (request.hasNonNull("max_concurrency")) {
      builder.maxConcurrency(request.get("max_concurrency").asInt());
    }
    HostTools.all(log).forEach(builder::tool);
    host = builder.start();
    host.awaitAttached(ATTACH);
  }

  /** Stops what still runs. */
  void close() {
    if (host != null) {
      host.close();
      host = null;
    }
    if (client != null) {
      client.close();
      client = null;
    }
  }
}
