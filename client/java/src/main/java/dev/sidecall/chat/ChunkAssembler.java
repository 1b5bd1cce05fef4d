package dev.sidecall.chat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.internal.Json;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Puts the chunks of one streamed answer of the Chat Completions API together. */
final class ChunkAssembler implements Dialect.Assembler {
  private static final Set<String> CUT_OFF = Set.of("length", "content_filter");
  private static final Set<String> DELTA_FIELDS =
      Set.of("role", "content", "refusal", "tool_calls", "function_call");
  private static final Set<String> CALL_FIELDS = Set.of("index", "id", "type", "function");

  private final StringBuilder text = new StringBuilder();
  private final StringBuilder refusal = new StringBuilder();
  private final ObjectNode extra = Json.object();
  private final CallSlots calls = new CallSlots();
  private final Map<String, CallSlots.Slot> byIndex = new HashMap<>();
  private String finishReason = "";
  private Usage usage = Usage.NONE;

  @Override
  public List<StreamPart> feed(JsonNode chunk) {
    JsonNode tokens = Items.get(chunk, "usage");
    if (tokens != null) {
      usage = ChatCompletionsDialect.usage(tokens);
    }
    List<StreamPart> parts = new ArrayList<>();
    for (JsonNode choice : Items.list(chunk, "choices")) {
      // Other choices than the first are nobody's turn.
      if (Items.number(choice, "index") != 0) {
        continue;
      }
      JsonNode delta = Items.get(choice, "delta");
      if (delta != null) {
        feedDelta(delta, parts);
      }
      String reason = Items.text(choice, "finish_reason");
      if (!reason.isEmpty()) {
        finishReason = reason;
        if (!CUT_OFF.contains(reason)) {
          calls.finishAll();
        }
      }
    }
    parts.addAll(calls.report());
    return parts;
  }

  @Override
  public ModelTurn finish() {
    if (finishReason.isEmpty()) {
      throw new ModelException(ModelStream.BROKEN_OFF);
    }
    ObjectNode item = Json.object().put("role", "assistant").put("content", text.toString());
    item.setAll(extra);
    if (!refusal.isEmpty()) {
      item.put("refusal", refusal.toString());
    }
    ArrayNode made = item.putArray("tool_calls");
    for (CallSlots.Slot slot : calls.all()) {
      ObjectNode call = Json.object().put("id", slot.callId).put("type", "function");
      call.putObject("function").put("name", slot.name).put("arguments", slot.arguments.toString());
      call.setAll(slot.extra);
      made.add(call);
    }
    return ChatCompletionsDialect.turn(item, finishReason, usage);
  }

  private void feedDelta(JsonNode delta, List<StreamPart> parts) {
    String content = Items.text(delta, "content");
    if (!content.isEmpty()) {
      text.append(content);
      parts.add(new StreamPart.TextPart(content, false));
    }
    String refused = Items.text(delta, "refusal");
    if (!refused.isEmpty()) {
      refusal.append(refused);
      parts.add(new StreamPart.TextPart(refused, true));
    }
    mergeOthers(extra, delta, DELTA_FIELDS);
    Items.list(delta, "tool_calls").forEach(this::feedCall);
  }

  private void feedCall(JsonNode delta) {
    String callId = Items.text(delta, "id");
    String index = String.valueOf(delta.get("index"));
    CallSlots.Slot slot = byIndex.get(index);
    // Some providers give every call of a turn the same index; a new id tells them apart.
    boolean another =
        slot != null && !callId.isEmpty() && !slot.callId.isEmpty() && !callId.equals(slot.callId);
    if (slot == null || another) {
      calls.finishAll();
      slot = new CallSlots.Slot("", "", true);
      byIndex.put(index, slot);
      calls.add(slot);
    }
    JsonNode function = Items.get(delta, "function");
    slot.callId = slot.callId.isEmpty() ? callId : slot.callId;
    slot.name = slot.name.isEmpty() ? Items.text(function, "name") : slot.name;
    slot.arguments.append(Items.text(function, "arguments"));
    mergeOthers(slot.extra, delta, CALL_FIELDS);
  }

  /** Keeps what the provider says beside the fields of the API. */
  private static void mergeOthers(ObjectNode target, JsonNode delta, Set<String> known) {
    delta
        .properties()
        .forEach(
            member -> {
              if (!known.contains(member.getKey())) {
                Items.mergeExtra(target, member.getKey(), member.getValue());
              }
            });
  }
}
