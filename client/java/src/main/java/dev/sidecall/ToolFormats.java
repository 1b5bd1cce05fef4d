package dev.sidecall;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.internal.Json;
import dev.sidecall.v1.Tool;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;

/** Tools in the formats of model providers. */
public final class ToolFormats {
  private ToolFormats() {}

  /**
   * Returns tools as the Chat Completions API takes them.
   *
   * @param tools from {@link SidecallClient#listTools}
   * @param names maps the names
   * @return one object per tool
   * @throws IllegalArgumentException a schema is not a JSON object
   */
  public static List<ObjectNode> toChatCompletionsTools(Collection<Tool> tools, ToolNames names) {
    List<ObjectNode> formatted = new ArrayList<>();
    for (Tool tool : tools) {
      ObjectNode entry = Json.object().put("type", "function");
      entry.set("function", function(tool, names, Json.object()));
      formatted.add(entry);
    }
    return formatted;
  }

  /**
   * Returns tools as the Responses API takes them.
   *
   * @param tools from {@link SidecallClient#listTools}
   * @param names maps the names
   * @return one object per tool
   * @throws IllegalArgumentException a schema is not a JSON object
   */
  public static List<ObjectNode> toResponsesTools(Collection<Tool> tools, ToolNames names) {
    List<ObjectNode> formatted = new ArrayList<>();
    for (Tool tool : tools) {
      ObjectNode entry = function(tool, names, Json.object().put("type", "function"));
      // Here strict is on unless said otherwise, and refuses most schemas of real tools.
      formatted.add(entry.put("strict", false));
    }
    return formatted;
  }

  private static ObjectNode function(Tool tool, ToolNames names, ObjectNode into) {
    into.put("name", names.toProvider(tool.getName()));
    into.put("description", tool.getDescription());
    into.set("parameters", parameters(tool));
    return into;
  }

  private static ObjectNode parameters(Tool tool) {
    ObjectNode parameters = Json.object().put("type", "object");
    parameters.set("properties", Json.object());
    if (!tool.getInputSchema().isEmpty()) {
      try {
        JsonNode schema = Json.read(tool.getInputSchema());
        if (!(schema instanceof ObjectNode object)) {
          throw new IllegalArgumentException(
              "the schema of the tool \"" + tool.getName() + "\" is no object");
        }
        parameters.setAll(object);
      } catch (JsonProcessingException error) {
        throw new IllegalArgumentException(
            "the schema of the tool \"" + tool.getName() + "\" is no JSON", error);
      }
    }
    parameters.remove("$schema");
    return parameters;
  }
}
