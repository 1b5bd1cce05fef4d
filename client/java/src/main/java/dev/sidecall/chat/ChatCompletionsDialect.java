package dev.sidecall.chat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.ResultFormats;
import dev.sidecall.ToolFormats;
import dev.sidecall.ToolNames;
import dev.sidecall.internal.Json;
import dev.sidecall.v1.Tool;
import dev.sidecall.v1.ToolResult;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** Writes and reads conversations of the Chat Completions API. */
final class ChatCompletionsDialect implements Dialect {
  private static final Set<String> INSTRUCTING_ROLES = Set.of("system", "developer");

  @Override
  public ObjectNode request(
      List<ObjectNode> history, List<Tool> tools, ToolNames names, Settings settings) {
    ObjectNode request = settings.extra().deepCopy();
    request.put("model", settings.model());
    request.set("messages", withHint(history, settings.hint()));
    ArrayNode offered = Json.array().addAll(ToolFormats.toChatCompletionsTools(tools, names));
    offered.addAll(Items.list(request, "tools"));
    if (!offered.isEmpty()) {
      request.set("tools", offered);
    }
    if (settings.stream() && !request.has("stream_options")) {
      request.putObject("stream_options").put("include_usage", true);
    }
    return request;
  }

  @Override
  public ModelTurn parse(JsonNode response) {
    List<JsonNode> choices = Items.list(response, "choices");
    if (choices.isEmpty()) {
      throw new ModelException(
          "the model's answer holds no choice: " + Items.get(response, "error"));
    }
    JsonNode choice = choices.get(0);
    JsonNode message = Items.get(choice, "message");
    return turn(
        message == null ? Json.object() : Items.withoutNulls(message),
        Items.text(choice, "finish_reason"),
        usage(Items.get(response, "usage")));
  }

  @Override
  public Assembler assembler() {
    return new ChunkAssembler();
  }

  @Override
  public void setCallIds(List<ObjectNode> items, List<String> callIds) {
    List<JsonNode> calls = Items.list(items.get(0), "tool_calls");
    for (int place = 0; place < calls.size(); place++) {
      ((ObjectNode) calls.get(place)).put("id", callIds.get(place));
    }
  }

  @Override
  public ObjectNode answer(ModelCall call, String callId, String content) {
    return Json.object().put("role", "tool").put("tool_call_id", callId).put("content", content);
  }

  @Override
  public void setContent(ObjectNode answer, String content, List<ToolResult> results) {
    answer.put("content", content);
  }

  @Override
  public List<ObjectNode> attachedParts(String callId, List<ToolResult> results) {
    return ResultFormats.attachedParts(callId, results);
  }

  @Override
  public ObjectNode attachedMessage(List<ObjectNode> parts) {
    return ResultFormats.attachedMessage(parts);
  }

  @Override
  public Set<String> callIds(List<ObjectNode> history) {
    Set<String> callIds = new HashSet<>();
    for (ObjectNode message : history) {
      Items.list(message, "tool_calls").forEach(call -> callIds.add(Items.text(call, "id")));
    }
    return callIds;
  }

  @Override
  public List<OpenCall> openCalls(List<ObjectNode> history) {
    List<OpenCall> found = new ArrayList<>();
    for (int index = 0; index < history.size(); index++) {
      ObjectNode message = history.get(index);
      if (!Items.text(message, "role").equals("assistant")) {
        continue;
      }
      // Only the tool messages right after the calls answer them.
      Set<String> answered = new HashSet<>();
      int end = index + 1;
      while (end < history.size() && Items.text(history.get(end), "role").equals("tool")) {
        answered.add(Items.text(history.get(end), "tool_call_id"));
        end++;
      }
      for (JsonNode call : Items.list(message, "tool_calls")) {
        String callId = Items.text(call, "id");
        if (!answered.contains(callId)) {
          found.add(new OpenCall(end, new ModelCall(callId, "", "", true)));
        }
      }
    }
    return found;
  }

  /** Makes a turn of an assistant message. */
  static ModelTurn turn(ObjectNode item, String finishReason, Usage usage) {
    item.remove(List.of("annotations", "function_call"));
    if (item.get("audio") instanceof ObjectNode audio) {
      item.set("audio", Json.object().put("id", Items.text(audio, "id")));
    }
    String text = Items.text(item, "content");
    String refusal = Items.text(item, "refusal");
    List<ModelCall> calls = new ArrayList<>();
    Items.list(item, "tool_calls").forEach(call -> calls.add(readCall((ObjectNode) call)));
    if (calls.isEmpty()) {
      item.remove("tool_calls");
    }
    // An answer without calls must have content; beside calls some providers refuse "".
    if (text.isEmpty() && !(calls.isEmpty() && refusal.isEmpty())) {
      item.putNull("content");
    } else {
      item.put("content", text);
    }
    StoppedReason end =
        switch (finishReason) {
          case "length" -> StoppedReason.LENGTH;
          case "content_filter" -> StoppedReason.CONTENT_FILTER;
          default ->
              calls.isEmpty() && !refusal.isEmpty()
                  ? StoppedReason.REFUSAL
                  : StoppedReason.COMPLETED;
        };
    return new ModelTurn(text, refusal, calls, end, usage, List.of(Items.sendableItem(item)));
  }

  static Usage usage(@Nullable JsonNode usage) {
    return new Usage(
        Items.number(usage, "prompt_tokens"), Items.number(usage, "completion_tokens"));
  }

  private static ModelCall readCall(ObjectNode call) {
    String callId = Items.text(call, "id");
    if (!(call.get("function") instanceof ObjectNode function)) {
      return new ModelCall(callId, "", "", false);
    }
    function.put("arguments", Items.text(function, "arguments"));
    return new ModelCall(
        callId, Items.text(function, "name"), Items.text(function, "arguments"), true);
  }

  private static ArrayNode withHint(List<ObjectNode> history, String hint) {
    ArrayNode messages = Json.array();
    if (hint.isEmpty()) {
      return messages.addAll(history);
    }
    ObjectNode first = history.isEmpty() ? Json.object() : history.get(0);
    // Merged into the first message where that instructs already: many models' templates allow
    // one such message only.
    if (!INSTRUCTING_ROLES.contains(Items.text(first, "role"))) {
      return messages.add(Json.object().put("role", "system").put("content", hint)).addAll(history);
    }
    ObjectNode merged = Json.object().put("role", Items.text(first, "role"));
    JsonNode content = first.get("content");
    if (content != null && content.isTextual()) {
      merged.put("content", content.textValue() + "\n\n" + hint);
    } else {
      merged
          .putArray("content")
          .addAll(Items.list(first, "content"))
          .add(Json.object().put("type", "text").put("text", hint));
    }
    return messages.add(merged).addAll(history.subList(1, history.size()));
  }
}
