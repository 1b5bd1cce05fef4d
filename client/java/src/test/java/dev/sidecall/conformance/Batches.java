package dev.sidecall.conformance;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.Approvals;
import dev.sidecall.BatchOptions;
import dev.sidecall.BatchResults;
import dev.sidecall.BatchStream;
import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallException;
import dev.sidecall.ToolCalls;
import dev.sidecall.v1.Approval;
import dev.sidecall.v1.ExecutionMode;
import dev.sidecall.v1.FailurePolicy;
import dev.sidecall.v1.ToolCall;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Executes one batch. */
final class Batches {
  private Batches() {}

  /** Executes the batch of a request. */
  static ObjectNode run(JsonNode request) throws IOException, InterruptedException {
    ObjectNode answer = Runner.JSON.createObjectNode();
    List<ToolCall> calls = new ArrayList<>();
    request.path("calls").forEach(call -> calls.add(callOf(call)));
    try (SidecallClient client = Clients.clientOf(request.path("sidecar"))) {
      BatchOptions.Builder options = optionsOf(request.path("options"));
      if (request.hasNonNull("timeout_ms")) {
        options.timeout(Duration.ofMillis(request.get("timeout_ms").asLong()));
      }
      boolean stream = request.path("stream").asBoolean();
      BatchResults results =
          stream
              ? streamed(client, calls, options.build())
              : client.executeBatch(calls, options.build());
      ArrayNode told = answer.put("outcome", "results").putArray("results");
      results.forEach(result -> told.add(Clients.resultOf(result)));
      answer.put("request_id", results.requestId());
    } catch (SidecallException | IllegalArgumentException error) {
      answer.put("outcome", "error").set("error", Clients.errorOf(error));
    }
    return answer;
  }

  private static BatchResults streamed(
      SidecallClient client, List<ToolCall> calls, BatchOptions options)
      throws InterruptedException {
    try (BatchStream turn = client.streamBatch(options)) {
      for (int index = 0; index < calls.size(); index++) {
        turn.send(index, calls.get(index));
      }
      turn.seal();
      return turn.results();
    }
  }

  /** Options of a batch. */
  static BatchOptions.Builder optionsOf(JsonNode given) {
    BatchOptions.Builder options = BatchOptions.builder();
    given
        .properties()
        .forEach(
            member -> {
              JsonNode value = member.getValue();
              String text = value.asText();
              switch (member.getKey()) {
                case "mode" -> options.mode(ExecutionMode.valueOf("EXECUTION_MODE_" + upper(text)));
                case "on_failure" ->
                    options.onFailure(FailurePolicy.valueOf("FAILURE_POLICY_" + upper(text)));
                case "max_concurrency" -> options.maxConcurrency(value.asInt());
                case "context" -> options.context(Clients.texts(value));
                case "request_id" -> options.requestId(text);
                case "sent_to_instance" -> options.sentToInstance(text);
                case "session_id" -> options.sessionId(text);
                case "max_response_bytes" -> options.maxResponseBytes(value.asLong());
                case "disable_references" -> options.disableReferences(value.asBoolean());
                case "approvals" -> options.approvals(approvalsOf(value));
                default -> {
                  // What is not known is ignored, as the protocol says.
                }
              }
            });
    return options;
  }

  private static List<Approval> approvalsOf(JsonNode given) {
    List<Approval> approvals = new ArrayList<>();
    given.forEach(each -> approvals.add(approvalOf(each, each.path("approval_id").asText())));
    return approvals;
  }

  /** A decision: to approve, else to reject. */
  static Approval approvalOf(JsonNode given, String approvalId) {
    String by = given.path("by").asText();
    if (!given.path("decision").asText().equals("approve")) {
      return Approvals.reject(approvalId, by, given.path("comment").asText());
    }
    return given.hasNonNull("arguments")
        ? Approvals.approve(approvalId, by, given.get("arguments").asText())
        : Approvals.approve(approvalId, by);
  }

  private static ToolCall callOf(JsonNode given) {
    ToolCall.Builder call =
        ToolCalls.of(
            given.path("name").asText(),
            given.path("arguments").asText(),
            given.path("id").asText())
            .toBuilder();
    given.path("depends_on").forEach(id -> call.addDependsOn(id.asText()));
    call.setIdempotencyKey(given.path("idempotency_key").asText());
    if (given.hasNonNull("timeout_ms")) {
      Duration timeout = Duration.ofMillis(given.get("timeout_ms").asLong());
      call.getTimeoutBuilder().setSeconds(timeout.getSeconds()).setNanos(timeout.getNano());
    }
    return call.build();
  }

  private static String upper(String text) {
    return text.toUpperCase(Locale.ROOT);
  }
}
