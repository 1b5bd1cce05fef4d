package dev.sidecall.conformance;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import dev.sidecall.SidecallClient;
import dev.sidecall.chat.ApprovalHook;
import dev.sidecall.chat.ChatApi;
import dev.sidecall.chat.ChatEvent;
import dev.sidecall.chat.ChatLoop;
import dev.sidecall.chat.ChatOptions;
import dev.sidecall.chat.ChatResult;
import dev.sidecall.v1.Approval;
import java.io.IOException;
import java.net.Proxy;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import org.jspecify.annotations.Nullable;

/** Runs one chat at a time. */
final class Chats {
  private volatile @Nullable Future<?> running;
  private volatile ArrayNode events = Runner.JSON.createArrayNode();
  private volatile JsonNode cancelAfter = Runner.JSON.createObjectNode();

  /** Cancels the run in hand. */
  void cancel() {
    Future<?> run = running;
    if (run != null) {
      run.cancel(true);
    }
  }

  /** Runs the chat of a request. */
  ObjectNode run(JsonNode request) throws IOException, InterruptedException {
    JsonNode model = request.path("model");
    OpenAIClient provider =
        OpenAIOkHttpClient.builder()
            .baseUrl(model.path("base_url").asText())
            .apiKey(model.path("api_key").asText())
            .maxRetries(0)
            .proxy(Proxy.NO_PROXY)
            .build();
    ObjectNode answer = Runner.JSON.createObjectNode();
    ArrayNode runs = answer.putArray("runs");
    try (SidecallClient client = Clients.clientOf(request.path("sidecar"))) {
      ChatLoop loop;
      try {
        loop = new ChatLoop(client, provider, optionsOf(request));
      } catch (IllegalArgumentException error) {
        ObjectNode refused = runs.addObject().put("outcome", "error");
        refused.set("error", Clients.errorOf(error));
        refused.putArray("history");
        refused.putArray("events");
        return answer;
      }
      for (JsonNode run : request.path("runs")) {
        runs.add(run(loop, run));
      }
    } finally {
      provider.close();
    }
    return answer;
  }

  private ChatOptions optionsOf(JsonNode request) {
    JsonNode given = request.path("options");
    ChatOptions.Builder options = ChatOptions.builder(request.path("model").path("name").asText());
    options.hook(this::take).batchOptions(Batches.optionsOf(given.path("batch")).build());
    if (request.hasNonNull("approvals")) {
      options.approvalHook(hookOf(request.get("approvals")));
    }
    given
        .properties()
        .forEach(
            member -> {
              JsonNode value = member.getValue();
              switch (member.getKey()) {
                case "api" ->
                    options.api(
                        value.asText().equals("responses")
                            ? ChatApi.RESPONSES
                            : ChatApi.CHAT_COMPLETIONS);
                case "stream" -> options.stream(value.asBoolean());
                case "early_start" -> options.earlyStart(value.asBoolean());
                case "max_turns" -> options.maxTurns(value.asInt());
                case "tools" -> {
                  List<String> names = new ArrayList<>();
                  value.forEach(name -> names.add(name.asText()));
                  options.tools(names);
                }
                case "reference_hint" -> options.referenceHint(value.asBoolean());
                case "attachments" -> options.attachments(value.asBoolean());
                case "context" -> options.context(Clients.texts(value));
                case "session_id" -> options.sessionId(value.asText());
                case "resend" -> options.resend(value.asBoolean());
                case "batch_timeout_ms" -> options.batchTimeout(Duration.ofMillis(value.asLong()));
                case "request" ->
                    value
                        .properties()
                        .forEach(each -> options.requestOption(each.getKey(), each.getValue()));
                default -> {
                  // What is not known is ignored, as the protocol says.
                }
              }
            });
    return options.build();
  }

  private void take(ChatEvent event) {
    ObjectNode told = Events.eventOf(event);
    events.add(told);
    String kind = told.path("event").asText();
    if (kind.equals(cancelAfter.path("event").asText())) {
      int seen = 0;
      for (JsonNode each : events) {
        seen += each.path("event").asText().equals(kind) ? 1 : 0;
      }
      if (seen == cancelAfter.path("count").asInt()) {
        cancel();
      }
    }
  }

  private ObjectNode run(ChatLoop loop, JsonNode run) throws InterruptedException {
    events = Runner.JSON.createArrayNode();
    cancelAfter = run.path("cancel_after");
    FutureTask<ChatResult> task = new FutureTask<>(() -> ask(loop, run.path("input")));
    Thread thread = new Thread(task, "chat");
    running = task;
    thread.start();
    ObjectNode told = Runner.JSON.createObjectNode();
    try {
      tell(task.get(), told);
    } catch (CancellationException error) {
      told.put("outcome", "cancelled");
    } catch (ExecutionException error) {
      told.put("outcome", "error");
      told.set("error", Clients.errorOf(unchecked(error.getCause())));
    } finally {
      running = null;
    }
    // A cancelled future is done before its thread is.
    thread.join();
    ArrayNode history = told.putArray("history");
    loop.history().forEach(item -> history.add(item.deepCopy()));
    told.set("events", events);
    return told;
  }

  private static ChatResult ask(ChatLoop loop, JsonNode input) throws InterruptedException {
    if (input.isTextual()) {
      return loop.run(input.asText());
    }
    List<ObjectNode> messages = new ArrayList<>();
    input.forEach(message -> messages.add((ObjectNode) message));
    return loop.run(messages);
  }

  private static void tell(ChatResult result, ObjectNode told) {
    told.put("outcome", "answer")
        .put("text", result.text())
        .put("refusal", result.refusal())
        .put("stopped_reason", result.stoppedReason().toString())
        .putObject("usage")
        .put("input_tokens", result.usage().inputTokens())
        .put("output_tokens", result.usage().outputTokens());
  }

  private static RuntimeException unchecked(@Nullable Throwable error) {
    return error instanceof RuntimeException known ? known : new IllegalStateException(error);
  }

  private static ApprovalHook hookOf(JsonNode rules) {
    return ApprovalHook.blocking(
        asked -> {
          for (JsonNode rule : rules) {
            String callId = rule.path("call_id").asText(asked.callId());
            if (rule.path("tool").asText().equals(asked.toolName())
                && callId.equals(asked.callId())) {
              return decisionOf(rule, asked.approvalId());
            }
          }
          return Optional.empty();
        });
  }

  private static Optional<Approval> decisionOf(JsonNode rule, String approvalId) {
    return switch (rule.path("decision").asText()) {
      case "approve", "reject" -> Optional.of(Batches.approvalOf(rule, approvalId));
      case "fail" -> throw new Clients.HookException(rule.path("comment").asText());
      default -> Optional.empty();
    };
  }
}
