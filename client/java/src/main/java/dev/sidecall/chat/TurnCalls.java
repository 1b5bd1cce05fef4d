package dev.sidecall.chat;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.ToolCalls;
import dev.sidecall.ToolNames;
import dev.sidecall.internal.Json;
import dev.sidecall.internal.Texts;
import dev.sidecall.v1.ToolCall;
import dev.sidecall.v1.ToolResult;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * Collects the calls of one turn as the model finishes them.
 *
 * <p>The batch has one call for each that the model made, in the model's order, so that "@N" in a
 * reference is the Nth call as the model counts them. A {@code multi_tool_use.parallel} counts as
 * the calls that it wraps, in its place; one that cannot be read counts as one call. A call that is
 * refused here keeps its place: the sidecar is given a call of no tool instead, which fails there
 * as TOOL_NOT_FOUND.
 */
final class TurnCalls {
  private static final Set<String> WRAPPERS =
      Set.of("multi_tool_use.parallel", "multi_tool_use_parallel");
  // OpenAI refuses ids over 40 characters.
  private static final int ID_STEM = 32;

  private final ToolNames names;
  private final IntFunction<String> mintId;
  private final Set<String> taken;
  private final boolean offeredOnly;
  private final List<AnsweredCall> answered = new ArrayList<>();
  private final List<ToolCall> batch = new ArrayList<>();
  // Results of calls that were sent early are settled while the model makes others.
  private final Map<Integer, RefusedCall> refused = new ConcurrentHashMap<>();

  /** A call that is not run: the tool that the model meant, and what the model is told. */
  private record RefusedCall(String name, String why) {}

  /** A call that a wrapper holds, and why it is not run; empty where it is. */
  private record ToolUse(String name, String arguments, String refusal) {}

  /**
   * A call of the model and the calls of the batch that stand for it.
   *
   * @param call the call as the model made it
   * @param callId its id in the history: never empty and unique
   * @param first index of the first of its calls in the batch
   * @param count how many calls it stands for; 1 unless it wraps others
   * @param wraps whether it wraps others; then its answer is a JSON list
   */
  record AnsweredCall(ModelCall call, String callId, int first, int count, boolean wraps) {
    /** Indexes of its calls in the batch. */
    List<Integer> indexes() {
      return IntStream.range(first, first + count).boxed().toList();
    }
  }

  /**
   * Begins a turn.
   *
   * @param names maps the names that the model uses
   * @param mintId makes the id of a call that has none, from the call's place in its turn
   * @param taken ids of earlier calls; a call that repeats one gets another in the history
   * @param offeredOnly whether calls of other tools than those in {@code names} are not run
   */
  TurnCalls(ToolNames names, IntFunction<String> mintId, Set<String> taken, boolean offeredOnly) {
    this.names = names;
    this.mintId = mintId;
    this.taken = new HashSet<>(taken);
    this.offeredOnly = offeredOnly;
  }

  List<AnsweredCall> answered() {
    return answered;
  }

  List<ToolCall> batch() {
    return batch;
  }

  /** Takes a call in. */
  void add(ModelCall call) {
    String callId = uniqueId(call);
    int first = batch.size();
    List<JsonNode> uses = toolUses(call);
    if (uses == null) {
      // A repeated id goes to the sidecar as it is, where a reference to it is an error; under
      // another id the reference would silently mean the wrong call.
      String id = call.callId().isEmpty() ? callId : call.callId();
      String refusal = call.supported() ? "" : AnswerTexts.NOT_SUPPORTED;
      append(new ToolUse(call.name(), call.arguments(), refusal), id);
    } else {
      for (int number = 1; number <= uses.size(); number++) {
        append(readUse(uses.get(number - 1)), callId + "_" + number);
      }
    }
    answered.add(new AnsweredCall(call, callId, first, batch.size() - first, uses != null));
  }

  /** Returns the answer of a call of the model, or null while a result is missing. */
  @Nullable String content(AnsweredCall call, Map<Integer, ToolResult> results) {
    ArrayNode contents = Json.array();
    for (int index : call.indexes()) {
      RefusedCall refusal = refused.get(index);
      ToolResult result = results.get(index);
      ObjectNode entry = contents.addObject();
      if (refusal != null) {
        entry.put("recipient_name", refusal.name()).put("content", refusal.why());
      } else if (result != null) {
        entry.put("recipient_name", result.getName()).put("content", result.getContent());
      } else {
        return null;
      }
    }
    return call.wraps() ? Json.writeSpaced(contents) : Items.text(contents.get(0), "content");
  }

  /** Returns what a call came to: the sidecar's result, or why it was refused here. */
  ToolResult settle(int index, ToolResult result) {
    RefusedCall refusal = refused.get(index);
    if (refusal == null) {
      return result;
    }
    ToolResult.Builder settled = result.toBuilder();
    settled.setName(refusal.name()).setContent(refusal.why());
    settled.getStatusBuilder().setMessage(refusal.why());
    return settled.build();
  }

  private void append(ToolUse use, String callId) {
    String tool = names.toTool(use.name());
    String refusal = use.refusal();
    if (refusal.isEmpty() && offeredOnly && !names.contains(tool)) {
      refusal = AnswerTexts.notOffered(tool, names.providerNames());
    }
    if (refusal.isEmpty()) {
      batch.add(ToolCalls.of(tool, use.arguments(), callId));
    } else {
      refused.put(batch.size(), new RefusedCall(Texts.escapeSurrogates(tool), refusal));
      batch.add(ToolCalls.of("", "", callId));
    }
  }

  private String uniqueId(ModelCall call) {
    String callId = call.callId().isEmpty() ? mintId.apply(answered.size()) : call.callId();
    int characters = callId.codePointCount(0, callId.length());
    String stem = callId.substring(0, callId.offsetByCodePoints(0, Math.min(ID_STEM, characters)));
    String candidate = callId;
    for (int repeat = 2; !taken.add(candidate); repeat++) {
      candidate = stem + "_" + repeat;
    }
    return candidate;
  }

  /** Returns what a wrapper wraps; null: it is an ordinary call. */
  private @Nullable List<JsonNode> toolUses(ModelCall call) {
    if (!WRAPPERS.contains(call.name()) || names.contains(names.toTool(call.name()))) {
      return null;
    }
    try {
      JsonNode uses = Json.read(call.arguments()).get("tool_uses");
      return uses instanceof ArrayNode
          ? Items.list(Json.object().set("tool_uses", uses), "tool_uses")
          : null;
    } catch (JsonProcessingException error) {
      return null;
    }
  }

  private static ToolUse readUse(JsonNode use) {
    JsonNode name = use.get("recipient_name");
    if (name == null || !name.isTextual()) {
      return new ToolUse("", "", AnswerTexts.NO_RECIPIENT);
    }
    JsonNode parameters = use.get("parameters");
    if (parameters == null || isEmpty(parameters)) {
      parameters = Json.object();
    }
    String arguments =
        parameters.isTextual() ? parameters.textValue() : Json.writeAscii(parameters);
    return new ToolUse(name.textValue(), arguments, "");
  }

  private static boolean isEmpty(JsonNode value) {
    return switch (value.getNodeType()) {
      case NULL, MISSING -> true;
      case STRING -> value.textValue().isEmpty();
      case BOOLEAN -> !value.booleanValue();
      case NUMBER -> value.decimalValue().signum() == 0;
      default -> value.isEmpty();
    };
  }
}
