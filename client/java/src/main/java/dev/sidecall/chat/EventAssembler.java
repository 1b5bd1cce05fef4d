package dev.sidecall.chat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.internal.Json;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/** Puts the events of one streamed answer of the Responses API together. */
final class EventAssembler implements Dialect.Assembler {
  private final CallSlots calls = new CallSlots();
  private final Map<Long, CallSlots.Slot> byOutput = new HashMap<>();
  private final Map<Long, ObjectNode> doneItems = new TreeMap<>();
  private @Nullable JsonNode response;

  @Override
  public List<StreamPart> feed(JsonNode chunk) {
    List<StreamPart> parts = new ArrayList<>();
    long output = Items.number(chunk, "output_index");
    switch (Items.text(chunk, "type")) {
      case "response.output_text.delta" ->
          parts.add(new StreamPart.TextPart(Items.text(chunk, "delta"), false));
      case "response.refusal.delta" ->
          parts.add(new StreamPart.TextPart(Items.text(chunk, "delta"), true));
      case "response.output_item.added" -> begin(output, item(chunk));
      case "response.function_call_arguments.delta" ->
          slot(output).arguments.append(Items.text(chunk, "delta"));
      case "response.function_call_arguments.done" ->
          finish(output, Items.text(chunk, "arguments"));
      case "response.output_item.done" -> finishItem(output, item(chunk));
      case "error" ->
          throw new ModelException(
              "the model's stream reports an error: " + Items.text(chunk, "message"));
      case "response.completed", "response.incomplete", "response.failed" ->
          response = Items.get(chunk, "response");
      default -> {
        // Others say nothing that the last event does not hold.
      }
    }
    parts.addAll(calls.report());
    return parts;
  }

  @Override
  public ModelTurn finish() {
    if (response == null) {
      throw new ModelException(ModelStream.BROKEN_OFF);
    }
    List<ObjectNode> items = new ArrayList<>();
    Items.list(response, "output").forEach(item -> items.add(Items.withoutNulls(item)));
    // Some servers leave the output out of the last event.
    return ResponsesDialect.turn(
        response, items.isEmpty() ? new ArrayList<>(doneItems.values()) : items);
  }

  private void begin(long output, JsonNode item) {
    if (ResponsesDialect.isCall(item)) {
      boolean supported = Items.text(item, "type").equals(ResponsesDialect.FUNCTION_CALL);
      CallSlots.Slot slot =
          new CallSlots.Slot(Items.text(item, "call_id"), Items.text(item, "name"), supported);
      byOutput.put(output, slot);
      calls.add(slot);
    }
  }

  private CallSlots.Slot slot(long output) {
    CallSlots.Slot slot = byOutput.get(output);
    if (slot == null) {
      throw new ModelException("the model's stream never began its output " + output);
    }
    return slot;
  }

  private void finish(long output, String arguments) {
    CallSlots.Slot slot = slot(output);
    slot.arguments = new StringBuilder(arguments);
    slot.done = true;
  }

  private void finishItem(long output, JsonNode item) {
    doneItems.put(output, Items.withoutNulls(item));
    if (ResponsesDialect.isCall(item) && !Items.text(item, "status").equals("incomplete")) {
      if (!byOutput.containsKey(output)) {
        begin(output, item);
      }
      finish(output, Items.text(item, "arguments"));
    }
  }

  private static JsonNode item(JsonNode chunk) {
    JsonNode item = Items.get(chunk, "item");
    return item == null ? Json.object() : item;
  }
}
