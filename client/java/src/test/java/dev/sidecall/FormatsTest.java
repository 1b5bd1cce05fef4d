package dev.sidecall;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.google.protobuf.ByteString;
import dev.sidecall.internal.Json;
import dev.sidecall.v1.Blob;
import dev.sidecall.v1.ResultPart;
import dev.sidecall.v1.Tool;
import dev.sidecall.v1.ToolResult;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;

final class FormatsTest {
  private static final byte[] PNG = "\u0089PNG\r\n\u001a\n".getBytes(StandardCharsets.ISO_8859_1);

  private static JsonNode json(String text) throws JsonProcessingException {
    return Json.read(text.replace('\'', '"'));
  }

  private static ToolResult result(String mediaType, byte[] data, String name) {
    Blob.Builder blob =
        Blob.newBuilder().setMediaType(mediaType).setData(ByteString.copyFrom(data)).setName(name);
    return ToolResult.newBuilder()
        .setCallId("c")
        .setName("draw")
        .setContent("text")
        .addParts(ResultPart.newBuilder().setBlob(blob))
        .build();
  }

  @Test
  void toolsOfBothApis() throws JsonProcessingException {
    List<Tool> tools =
        List.of(
            Tool.newBuilder()
                .setName("a.b")
                .setDescription("d")
                .setInputSchema("{\"$schema\": \"s\", \"required\": [\"x\"]}")
                .build());
    ToolNames names = ToolNames.ofTools(tools);
    String function =
        "'name': 'a_b', 'description': 'd', 'parameters':"
            + " {'type': 'object', 'properties': {}, 'required': ['x']}";
    assertEquals(
        json("{'type': 'function', 'function': {" + function + "}}"),
        ToolFormats.toChatCompletionsTools(tools, names).get(0));
    assertEquals(
        json("{'type': 'function', " + function + ", 'strict': false}"),
        ToolFormats.toResponsesTools(tools, names).get(0));
  }

  @Test
  void aSchemaThatIsNoneIsRefused() {
    List<Tool> tools = List.of(Tool.newBuilder().setName("a").setInputSchema("[]").build());
    assertThrows(
        IllegalArgumentException.class,
        () -> ToolFormats.toResponsesTools(tools, ToolNames.ofTools(tools)));
  }

  @Test
  void imagesFollowTheToolMessages() throws JsonProcessingException {
    List<? extends JsonNode> messages =
        ResultFormats.toChatCompletionsMessages(List.of(result("image/jpg", PNG, "a")), true);
    assertEquals(json("{'role': 'tool', 'tool_call_id': 'c', 'content': 'text'}"), messages.get(0));
    JsonNode parts = messages.get(1).get("content");
    assertEquals(ResultFormats.ATTACHMENTS_NOTE, parts.get(0).get("text").asText());
    assertEquals("Attachment 1 of the result of call c (draw):", parts.get(1).get("text").asText());
    // What the bytes say wins over what they are said to be.
    assertEquals(
        "data:image/png;base64,iVBORw0KGgo=", parts.get(2).get("image_url").get("url").asText());
    assertEquals(
        1,
        ResultFormats.toChatCompletionsMessages(List.of(result("image/png", PNG, "a")), false)
            .size());
  }

  @Test
  void whatAProviderWouldRefuseStaysText() {
    byte[] noImage = {1, 2, 3};
    for (String mediaType : List.of("image/png", "application/pdf", "audio/wav")) {
      List<ToolResult> results = List.of(result(mediaType, noImage, "a"));
      assertEquals(1, ResultFormats.toChatCompletionsMessages(results, true).size());
      assertEquals(
          "text", ResultFormats.toResponsesOutputs(results, true).get(0).get("output").asText());
    }
  }

  @Test
  void documentsAreInTheOutput() throws JsonProcessingException {
    byte[] data = "a,b".getBytes(StandardCharsets.UTF_8);
    JsonNode output =
        ResultFormats.toResponsesOutputs(
                List.of(result("text/csv; charset=utf-8", data, "../t/a\nb.csv")), true)
            .get(0)
            .get("output");
    assertEquals(
        json(
            "[{'type': 'input_text', 'text': 'text'},"
                + " {'type': 'input_text',"
                + " 'text': '[text/csv; charset=utf-8, 3 bytes: ../t/a b.csv]:'},"
                + " {'type': 'input_file', 'filename': 'a b.csv',"
                + " 'file_data': 'data:text/csv;base64,YSxi'}]"),
        output);
  }
}
