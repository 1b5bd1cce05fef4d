package dev.sidecall.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import dev.sidecall.internal.Json;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

final class AssemblerTest {
  private static JsonNode json(String text) throws JsonProcessingException {
    return Json.read(text.replace('\'', '"'));
  }

  private static List<StreamPart> feed(Dialect.Assembler assembler, String... chunks)
      throws JsonProcessingException {
    List<StreamPart> parts = new ArrayList<>();
    for (String chunk : chunks) {
      parts.addAll(assembler.feed(json(chunk)));
    }
    return parts;
  }

  private static String delta(String delta) {
    return "{'choices': [{'index': 0, 'delta': " + delta + "}]}";
  }

  private static String call(int index, String fields) {
    return delta("{'tool_calls': [{'index': " + index + ", " + fields + "}]}");
  }

  private static final String END =
      "{'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'tool_calls'}],"
          + " 'usage': {'prompt_tokens': 3, 'completion_tokens': 4}}";

  @Test
  void aCallIsDoneWhenTheNextOneBegins() throws JsonProcessingException {
    Dialect.Assembler assembler = new ChatCompletionsDialect().assembler();
    assertEquals(
        List.of(new StreamPart.TextPart("Hm", false)), feed(assembler, delta("{'content': 'Hm'}")));
    assertTrue(
        feed(
                assembler,
                call(0, "'id': 'a', 'function': {'name': 'f', 'arguments': '{'}"),
                call(0, "'function': {'arguments': '}'}, 'extra': {'x': 'y'}"))
            .isEmpty());
    ModelCall first = new ModelCall("a", "f", "{}", true);
    assertEquals(
        List.of(new StreamPart.CallDone(first)),
        feed(assembler, call(1, "'id': 'b', 'function': {'name': 'g', 'arguments': ''}")));
    ModelCall second = new ModelCall("b", "g", "", true);
    assertEquals(List.of(new StreamPart.CallDone(second)), feed(assembler, END));
    ModelTurn turn = assembler.finish();
    assertEquals(List.of(first, second), turn.calls());
    assertEquals(new Usage(3, 4), turn.usage());
    assertEquals(
        json(
            "{'role': 'assistant', 'content': 'Hm', 'tool_calls': ["
                + "{'id': 'a', 'type': 'function', 'function': {'name': 'f', 'arguments': '{}'},"
                + " 'extra': {'x': 'y'}},"
                + "{'id': 'b', 'type': 'function', 'function': {'name': 'g', 'arguments': ''}}]}"),
        turn.items().get(0));
  }

  @Test
  void aNewIdBeginsACallAlsoUnderTheSameIndex() throws JsonProcessingException {
    Dialect.Assembler assembler = new ChatCompletionsDialect().assembler();
    feed(
        assembler,
        call(0, "'id': 'a', 'function': {'name': 'f', 'arguments': '1'}"),
        call(0, "'id': 'b', 'function': {'name': 'f', 'arguments': '2'}"),
        END);
    assertEquals(
        List.of("1", "2"), assembler.finish().calls().stream().map(ModelCall::arguments).toList());
  }

  @Test
  void whatComesLateReopensACall() throws JsonProcessingException {
    Dialect.Assembler assembler = new ChatCompletionsDialect().assembler();
    List<StreamPart> parts =
        feed(
            assembler,
            call(0, "'id': 'a', 'function': {'name': 'f', 'arguments': '1'}"),
            call(1, "'id': 'b', 'function': {'name': 'f', 'arguments': '2'}"),
            call(0, "'function': {'arguments': '3'}"),
            END);
    assertInstanceOf(StreamPart.CallDone.class, parts.get(0));
    assertInstanceOf(StreamPart.CallReopened.class, parts.get(1));
    assertEquals(2, parts.size());
  }

  @Test
  void aStreamThatBreaksOffIsAnError() throws JsonProcessingException {
    Dialect.Assembler chunks = new ChatCompletionsDialect().assembler();
    feed(chunks, delta("{'content': 'Hm'}"));
    assertThrows(ModelException.class, chunks::finish);
    Dialect.Assembler events = new ResponsesDialect().assembler();
    assertThrows(ModelException.class, events::finish);
    assertThrows(
        ModelException.class,
        () -> feed(events, "{'type': 'response.function_call_arguments.delta'}"));
    assertThrows(ModelException.class, () -> feed(events, "{'type': 'error', 'message': 'full'}"));
  }

  @Test
  void itemsThatTheLastEventLeavesOutWereStreamed() throws JsonProcessingException {
    Dialect.Assembler assembler = new ResponsesDialect().assembler();
    String item = "'type': 'function_call', 'call_id': 'a', 'name': 'f'";
    List<StreamPart> parts =
        feed(
            assembler,
            "{'type': 'response.output_item.added', 'output_index': 0, 'item': {" + item + "}}",
            "{'type': 'response.output_item.done', 'output_index': 0, 'item': {"
                + item
                + ", 'arguments': '{}', 'status': null}}",
            "{'type': 'response.completed', 'response': {'status': 'completed', 'output': []}}");
    ModelCall call = new ModelCall("a", "f", "{}", true);
    assertEquals(List.of(new StreamPart.CallDone(call)), parts);
    ModelTurn turn = assembler.finish();
    assertEquals(List.of(call), turn.calls());
    assertEquals(List.of(json("{" + item + ", 'arguments': '{}'}")), turn.items());
  }
}
