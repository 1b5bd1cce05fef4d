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

/**
 * Writes and reads conversations of the Responses API.
 *
 * <p>The history holds all items of a turn, reasoning included, so that it can be sent whole each
 * time, whether or not the provider stores it.
 */
final class ResponsesDialect implements Dialect {
  static final String FUNCTION_CALL = "function_call";

  private static final Set<String> CALLS = Set.of(FUNCTION_CALL, "custom_tool_call");
  private static final Set<String> OUTPUTS =
      Set.of("function_call_output", "custom_tool_call_output");
  private static final Set<String> FAILED = Set.of("failed", "cancelled");

  @Override
  public ObjectNode request(
      List<ObjectNode> history, List<Tool> tools, ToolNames names, Settings settings) {
    ObjectNode request = settings.extra().deepCopy();
    request.put("model", settings.model());
    request.set("input", Json.array().addAll(history));
    if (!settings.hint().isEmpty()) {
      String given = Items.text(request, "instructions");
      request.put(
          "instructions", given.isEmpty() ? settings.hint() : given + "\n\n" + settings.hint());
    }
    ArrayNode offered = Json.array().addAll(ToolFormats.toResponsesTools(tools, names));
    offered.addAll(Items.list(request, "tools"));
    if (!offered.isEmpty()) {
      request.set("tools", offered);
    }
    return request;
  }

  @Override
  public ModelTurn parse(JsonNode response) {
    List<ObjectNode> items = new ArrayList<>();
    Items.list(response, "output").forEach(item -> items.add(Items.withoutNulls(item)));
    return turn(response, items);
  }

  @Override
  public Assembler assembler() {
    return new EventAssembler();
  }

  @Override
  public void setCallIds(List<ObjectNode> items, List<String> callIds) {
    List<ObjectNode> calls = items.stream().filter(ResponsesDialect::isCall).toList();
    for (int place = 0; place < calls.size(); place++) {
      calls.get(place).put("call_id", callIds.get(place));
    }
  }

  @Override
  public ObjectNode answer(ModelCall call, String callId, String content) {
    String type = call.supported() ? "function_call_output" : "custom_tool_call_output";
    return Json.object().put("type", type).put("call_id", callId).put("output", content);
  }

  @Override
  public void setContent(ObjectNode answer, String content, List<ToolResult> results) {
    answer.set("output", ResultFormats.responsesOutput(content, results));
  }

  @Override
  public List<ObjectNode> attachedParts(String callId, List<ToolResult> results) {
    // The output holds all that can be sent.
    return List.of();
  }

  @Override
  public ObjectNode attachedMessage(List<ObjectNode> parts) {
    ObjectNode message = Json.object().put("role", "user");
    message.putArray("content").addAll(parts);
    return message;
  }

  @Override
  public Set<String> callIds(List<ObjectNode> history) {
    Set<String> callIds = new HashSet<>();
    for (ObjectNode item : history) {
      if (isCall(item)) {
        callIds.add(Items.text(item, "call_id"));
      }
    }
    return callIds;
  }

  @Override
  public List<OpenCall> openCalls(List<ObjectNode> history) {
    Set<String> answered = new HashSet<>();
    for (ObjectNode item : history) {
      if (OUTPUTS.contains(Items.text(item, "type"))) {
        answered.add(Items.text(item, "call_id"));
      }
    }
    List<OpenCall> found = new ArrayList<>();
    for (int index = 0; index < history.size(); index++) {
      ObjectNode item = history.get(index);
      if (isCall(item) && !answered.contains(Items.text(item, "call_id"))) {
        found.add(new OpenCall(index + 1, readCall(item)));
      }
    }
    return found;
  }

  /** Whether an item is a call. */
  static boolean isCall(JsonNode item) {
    return CALLS.contains(Items.text(item, "type"));
  }

  /** Makes a turn of a response and its items. */
  static ModelTurn turn(JsonNode response, List<ObjectNode> items) {
    String status = Items.text(response, "status");
    if (FAILED.contains(status)) {
      throw new ModelException(
          "the model's answer " + status + ": " + Items.get(response, "error"));
    }
    String text = contents(items, "output_text", "text");
    String refusal = contents(items, "refusal", "refusal");
    List<ModelCall> calls = new ArrayList<>();
    items.stream().filter(ResponsesDialect::isCall).forEach(item -> calls.add(readCall(item)));
    StoppedReason end =
        calls.isEmpty() && !refusal.isEmpty() ? StoppedReason.REFUSAL : StoppedReason.COMPLETED;
    List<ObjectNode> kept = new ArrayList<>(items);
    if (status.equals("incomplete")) {
      String reason = Items.text(Items.get(response, "incomplete_details"), "reason");
      end = reason.equals("content_filter") ? StoppedReason.CONTENT_FILTER : StoppedReason.LENGTH;
      // Reasoning that led to nothing is refused in later requests.
      while (!kept.isEmpty() && Items.text(kept.get(kept.size() - 1), "type").equals("reasoning")) {
        kept.remove(kept.size() - 1);
      }
    }
    for (ObjectNode item : kept) {
      if (Items.text(item, "type").equals(FUNCTION_CALL)) {
        item.put("arguments", Items.text(item, "arguments"));
      }
    }
    JsonNode tokens = Items.get(response, "usage");
    Usage usage =
        new Usage(Items.number(tokens, "input_tokens"), Items.number(tokens, "output_tokens"));
    kept.replaceAll(Items::sendableItem);
    return new ModelTurn(text, refusal, calls, end, usage, kept);
  }

  private static String contents(List<ObjectNode> items, String type, String key) {
    StringBuilder text = new StringBuilder();
    for (ObjectNode item : items) {
      if (Items.text(item, "type").equals("message")) {
        for (JsonNode part : Items.list(item, "content")) {
          text.append(Items.text(part, "type").equals(type) ? Items.text(part, key) : "");
        }
      }
    }
    return text.toString();
  }

  private static ModelCall readCall(JsonNode item) {
    return new ModelCall(
        Items.text(item, "call_id"),
        Items.text(item, "name"),
        Items.text(item, "arguments"),
        Items.text(item, "type").equals(FUNCTION_CALL));
  }
}
