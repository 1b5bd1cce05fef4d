package dev.sidecall.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.ToolNames;
import dev.sidecall.internal.Json;
import dev.sidecall.v1.ToolCall;
import dev.sidecall.v1.ToolResult;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

final class TurnCallsTest {
  private static TurnCalls calls(boolean offeredOnly) {
    ToolNames names = ToolNames.of(List.of("f", "g.h"));
    return new TurnCalls(names, place -> "call_5_" + place, Set.of("old"), offeredOnly);
  }

  private static ModelCall call(String id, String name, String arguments) {
    return new ModelCall(id, name, arguments, true);
  }

  @Test
  void idsAreMintedAndMadeUnique() {
    TurnCalls calls = calls(false);
    for (String id : List.of("", "old", "old", "x".repeat(40), "x".repeat(40))) {
      calls.add(call(id, "f", "{}"));
    }
    assertEquals(
        List.of("call_5_0", "old_2", "old_3", "x".repeat(40), "x".repeat(32) + "_2"),
        calls.answered().stream().map(TurnCalls.AnsweredCall::callId).toList());
    assertEquals("old", calls.batch().get(2).getId());
  }

  @Test
  void wrappedCallsStandInThePlaceOfTheWrapper() {
    TurnCalls calls = calls(false);
    String uses =
        "{\"tool_uses\": [{\"recipient_name\": \"functions.g_h\", \"parameters\": {\"é\": [1]}},"
            + " {\"recipient_name\": \"f\", \"parameters\": \"{}\"}, {\"recipient_name\": 1}]}";
    calls.add(call("w", "multi_tool_use.parallel", uses));
    List<ToolCall> batch = calls.batch();
    assertEquals(
        List.of("w_1 g.h {\"\\u00e9\": [1]}", "w_2 f {}", "w_3  "),
        batch.stream()
            .map(each -> each.getId() + " " + each.getName() + " " + each.getArguments())
            .toList());
    TurnCalls.AnsweredCall answered = calls.answered().get(0);
    ToolResult one = ToolResult.newBuilder().setName("g.h").setContent("1").build();
    ToolResult two = ToolResult.newBuilder().setName("f").setContent("é").build();
    assertNull(calls.content(answered, Map.of(0, one)));
    assertEquals(
        "[{\"recipient_name\": \"g.h\", \"content\": \"1\"},"
            + " {\"recipient_name\": \"f\", \"content\": \"é\"},"
            + " {\"recipient_name\": \"\", \"content\": \""
            + AnswerTexts.NO_RECIPIENT
            + "\"}]",
        calls.content(answered, Map.of(0, one, 1, two)));
  }

  @Test
  void aWrapperThatCannotBeReadIsACall() {
    TurnCalls calls = calls(false);
    calls.add(call("w", "multi_tool_use.parallel", "{\"tool_uses\": 1}"));
    assertEquals("multi_tool_use.parallel", calls.batch().get(0).getName());
  }

  @Test
  void whatWasNotOfferedIsNotRun() {
    TurnCalls calls = calls(true);
    calls.add(call("a", "it's", "{}"));
    assertEquals("", calls.batch().get(0).getName());
    assertEquals(
        "NOT RUN: there is no tool \"it's\". The tools are: f, g_h.",
        calls.settle(0, ToolResult.getDefaultInstance()).getContent());
  }

  @Test
  void theHistoryIsValidAtEachMoment() {
    List<ObjectNode> history = new ArrayList<>();
    Dialect dialect = new ChatCompletionsDialect();
    ObjectNode message = Json.object().put("role", "assistant");
    message.putArray("tool_calls").addObject().put("id", "");
    TurnCalls calls = calls(false);
    calls.add(call("", "f", "{}"));
    ModelTurn turn =
        new ModelTurn("", "", List.of(), StoppedReason.COMPLETED, Usage.NONE, List.of(message));
    TurnRecord record = new TurnRecord(history, dialect, turn, calls, true);
    assertEquals(List.of(), dialect.openCalls(history));
    assertEquals(AnswerTexts.PENDING, history.get(1).get("content").asText());
    record.addResult(0, ToolResult.newBuilder().setContent("done").build());
    record.fail("never");
    assertEquals("done", history.get(1).get("content").asText());
    assertEquals("call_5_0", history.get(0).get("tool_calls").get(0).get("id").asText());
    history.remove(1);
    TurnRecord.answerOpenCalls(history, dialect);
    assertEquals(AnswerTexts.PENDING, history.get(1).get("content").asText());
  }
}
