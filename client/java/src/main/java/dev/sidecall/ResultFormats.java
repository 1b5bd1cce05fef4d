package dev.sidecall;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import com.google.protobuf.ByteString;
import dev.sidecall.internal.Blobs;
import dev.sidecall.internal.Json;
import dev.sidecall.v1.Blob;
import dev.sidecall.v1.ResultPart;
import dev.sidecall.v1.ToolResult;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;

/**
 * Results in the forms that model providers take.
 *
 * <p>A provider takes images and files beside the text of a result: in the Responses API inside the
 * call's output; in Chat Completions, whose tool messages hold text only, in a user message after
 * all tool messages of the turn. Links stay text: a provider that cannot fetch one refuses the
 * whole conversation.
 */
public final class ResultFormats {
  /** Begins the user message that holds attachments. */
  public static final String ATTACHMENTS_NOTE =
      "[Images and files of the tool results above. The user did not write this.]";

  private ResultFormats() {}

  /**
   * Makes the messages that answer the calls of one turn in Chat Completions. They go right after
   * the assistant message that made the calls.
   *
   * @param results the results of the turn's calls
   * @param attachments whether a user message with images and PDF files follows where there are any
   * @return the messages
   */
  public static List<ObjectNode> toChatCompletionsMessages(
      Iterable<ToolResult> results, boolean attachments) {
    List<ObjectNode> messages = new ArrayList<>();
    List<ObjectNode> attached = new ArrayList<>();
    for (ToolResult result : results) {
      messages.add(
          Json.object()
              .put("role", "tool")
              .put("tool_call_id", result.getCallId())
              .put("content", result.getContent()));
      if (attachments) {
        attached.addAll(attachedParts(result.getCallId(), List.of(result)));
      }
    }
    if (!attached.isEmpty()) {
      messages.add(attachedMessage(attached));
    }
    return messages;
  }

  /**
   * Makes the items that answer function calls in the Responses API.
   *
   * @param results the results
   * @param attachments whether outputs hold images and documents beside text
   * @return the items
   */
  public static List<ObjectNode> toResponsesOutputs(
      Iterable<ToolResult> results, boolean attachments) {
    List<ObjectNode> outputs = new ArrayList<>();
    for (ToolResult result : results) {
      ObjectNode item =
          Json.object().put("type", "function_call_output").put("call_id", result.getCallId());
      List<ToolResult> shown = attachments ? List.of(result) : List.of();
      item.set("output", responsesOutput(result.getContent(), shown));
      outputs.add(item);
    }
    return outputs;
  }

  /**
   * The images and PDF files of a call's results as labelled parts of a user message in Chat
   * Completions. Beside them it holds nothing that a tool wrote: that would speak as the user.
   *
   * @param callId id of the call
   * @param results its results
   * @return a label and an attachment in turn
   */
  public static List<ObjectNode> attachedParts(String callId, Collection<ToolResult> results) {
    List<ObjectNode> parts = new ArrayList<>();
    for (ToolResult result : results) {
      for (Blob blob : blobsOf(result)) {
        ObjectNode part = Json.object();
        String mediaType = Blobs.shownAs(blob);
        if (Blobs.IMAGES.contains(mediaType)) {
          part.put("type", "image_url")
              .putObject("image_url")
              .put("url", Blobs.dataUrl(mediaType, blob.getData()));
        } else if (mediaType.equals(Blobs.PDF)) {
          // Without the tool's own name for it, which the tool message tells.
          part.put("type", "file").set("file", file("", mediaType, blob.getData()));
        } else {
          continue;
        }
        int number = parts.size() / 2 + 1;
        String of = " of the result of call " + callId + " (" + result.getName() + "):";
        parts.add(text("text", "Attachment " + number + of));
        parts.add(part);
      }
    }
    return parts;
  }

  /**
   * The user message that holds attachments.
   *
   * @param parts from {@link #attachedParts}
   * @return the message
   */
  public static ObjectNode attachedMessage(Collection<ObjectNode> parts) {
    ObjectNode message = Json.object().put("role", "user");
    message.putArray("content").add(text("text", ATTACHMENTS_NOTE)).addAll(parts);
    return message;
  }

  /**
   * The output of a call in the Responses API.
   *
   * @param content its text
   * @param results results whose images and documents are shown
   * @return the text, or with images or documents a list that begins so
   */
  public static JsonNode responsesOutput(String content, Collection<ToolResult> results) {
    ArrayNode output = Json.array().add(text("input_text", content));
    for (ToolResult result : results) {
      for (Blob blob : blobsOf(result)) {
        String mediaType = Blobs.shownAs(blob);
        ObjectNode part = Json.object();
        if (Blobs.IMAGES.contains(mediaType)) {
          part.put("type", "input_image")
              .put("image_url", Blobs.dataUrl(mediaType, blob.getData()));
        } else if (Blobs.isDocument(mediaType)) {
          part.put("type", "input_file").setAll(file(blob.getName(), mediaType, blob.getData()));
        } else {
          continue;
        }
        output.add(text("input_text", Blobs.line(blob) + ":")).add(part);
      }
    }
    return output.size() > 1 ? output : TextNode.valueOf(content);
  }

  private static List<Blob> blobsOf(ToolResult result) {
    return result.getPartsList().stream()
        .filter(ResultPart::hasBlob)
        .map(ResultPart::getBlob)
        .filter(blob -> !blob.getData().isEmpty())
        .toList();
  }

  private static ObjectNode file(String name, String mediaType, ByteString data) {
    return Json.object()
        .put("filename", Blobs.fileName(name, mediaType))
        .put("file_data", Blobs.dataUrl(mediaType, data));
  }

  private static ObjectNode text(String type, String text) {
    return Json.object().put("type", type).put("text", text);
  }
}
