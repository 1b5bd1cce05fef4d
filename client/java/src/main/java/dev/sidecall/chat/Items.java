package dev.sidecall.chat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import dev.sidecall.internal.Json;
import dev.sidecall.internal.Texts;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** Access to the JSON of requests, answers and history items. */
final class Items {
  private Items() {}

  /** A field that is a text; empty where there is none. */
  static String text(@Nullable JsonNode item, String key) {
    JsonNode value = item == null ? null : item.get(key);
    return value == null || !value.isTextual() ? "" : value.textValue();
  }

  /** A field that is a number; 0 where there is none. */
  static long number(@Nullable JsonNode item, String key) {
    JsonNode value = item == null ? null : item.get(key);
    return value == null || !value.isNumber() ? 0 : value.longValue();
  }

  /** A field; null where there is none, or it is null. */
  static @Nullable JsonNode get(@Nullable JsonNode item, String key) {
    JsonNode value = item == null ? null : item.get(key);
    return value == null || value.isNull() ? null : value;
  }

  /** The entries of a field that is a list. */
  static List<JsonNode> list(@Nullable JsonNode item, String key) {
    List<JsonNode> entries = new ArrayList<>();
    JsonNode value = get(item, key);
    if (value instanceof ArrayNode array) {
      array.forEach(entries::add);
    }
    return entries;
  }

  /** A copy of an object without members that are null. */
  static ObjectNode withoutNulls(JsonNode item) {
    return stripped(item) instanceof ObjectNode object ? object : Json.object();
  }

  private static JsonNode stripped(JsonNode value) {
    if (value instanceof ObjectNode object) {
      ObjectNode copy = Json.object();
      object
          .properties()
          .forEach(
              member -> {
                if (!member.getValue().isNull()) {
                  copy.set(member.getKey(), stripped(member.getValue()));
                }
              });
      return copy;
    }
    if (value instanceof ArrayNode array) {
      ArrayNode copy = Json.array();
      array.forEach(entry -> copy.add(stripped(entry)));
      return copy;
    }
    return value;
  }

  /** A copy whose texts can be written as UTF-8: a model may write lone surrogates. */
  static JsonNode sendable(JsonNode value) {
    if (value instanceof TextNode text) {
      return TextNode.valueOf(Texts.escapeSurrogates(text.textValue()));
    }
    if (value instanceof ObjectNode object) {
      ObjectNode copy = Json.object();
      object.properties().forEach(member -> copy.set(member.getKey(), sendable(member.getValue())));
      return copy;
    }
    if (value instanceof ArrayNode array) {
      ArrayNode copy = Json.array();
      array.forEach(entry -> copy.add(sendable(entry)));
      return copy;
    }
    return value;
  }

  /** A copy of an object whose texts can be written as UTF-8. */
  static ObjectNode sendableItem(ObjectNode item) {
    return (ObjectNode) sendable(item);
  }

  /** Adds a provider's own fields of a delta: texts grow, other values are replaced. */
  static void mergeExtra(ObjectNode target, String key, JsonNode value) {
    JsonNode present = target.get(key);
    if (value instanceof TextNode text && present instanceof TextNode begun) {
      target.put(key, begun.textValue() + text.textValue());
    } else if (value instanceof ObjectNode object && present instanceof ObjectNode inner) {
      object.properties().forEach(member -> mergeExtra(inner, member.getKey(), member.getValue()));
    } else if (!value.isNull()) {
      target.set(key, value.deepCopy());
    }
  }
}
