package dev.sidecall.conformance;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.rpc.Code;
import com.openai.errors.OpenAIException;
import com.openai.errors.OpenAIServiceException;
import dev.sidecall.Results;
import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallClientBuilder;
import dev.sidecall.SidecallException;
import dev.sidecall.chat.ApprovalHookException;
import dev.sidecall.chat.ModelException;
import dev.sidecall.v1.ResultPart;
import dev.sidecall.v1.ToolResult;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;

/** Clients as requests ask for them, and messages as answers tell them. */
final class Clients {
  private Clients() {}

  /** What a hook of the application fails with. */
  static final class HookException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    HookException(String message) {
      super(message);
    }
  }

  /** Makes the client of a request's {@code sidecar}. */
  static SidecallClient clientOf(JsonNode where) throws IOException {
    SidecallClientBuilder builder = SidecallClient.builder();
    if (where.hasNonNull("endpoint")) {
      builder.endpoint(where.get("endpoint").asText());
    }
    if (where.hasNonNull("token")) {
      builder.token(where.get("token").asText());
    }
    if (where.hasNonNull("max_message_bytes")) {
      builder.maxMessageBytes(where.get("max_message_bytes").asInt());
    }
    builder.metadata(texts(where.path("metadata")));
    if (where.hasNonNull("tls")) {
      JsonNode tls = where.get("tls");
      Path caFile = Path.of(tls.path("ca_file").asText());
      if (tls.hasNonNull("cert_file")) {
        builder.tls(
            caFile, Path.of(tls.get("cert_file").asText()), Path.of(tls.path("key_file").asText()));
      } else {
        builder.tls(caFile);
      }
    }
    return builder.build();
  }

  /** The members of an object of texts. */
  static Map<String, String> texts(JsonNode object) {
    Map<String, String> texts = new HashMap<>();
    object.properties().forEach(each -> texts.put(each.getKey(), each.getValue().asText()));
    return texts;
  }

  /** Tells an error. */
  static ObjectNode errorOf(RuntimeException error) {
    ObjectNode told = Runner.JSON.createObjectNode();
    told.put("kind", kindOf(error)).put("message", String.valueOf(error.getMessage()));
    if (error instanceof SidecallException failure) {
      told.put("code", failure.code().name())
          .put("reason", failure.reason())
          .put("not_started", failure.notStarted());
    } else if (error instanceof OpenAIServiceException refusal) {
      told.put("status", refusal.statusCode());
    }
    return told;
  }

  private static String kindOf(RuntimeException error) {
    if (error instanceof SidecallException) {
      return "sidecar";
    }
    if (error instanceof ModelException) {
      return "model";
    }
    if (error instanceof HookException || error instanceof ApprovalHookException) {
      return "hook";
    }
    if (error instanceof OpenAIException) {
      return "provider";
    }
    if (error instanceof IllegalArgumentException) {
      return "invalid";
    }
    throw error;
  }

  /** Tells a result. */
  static ObjectNode resultOf(ToolResult result) {
    ObjectNode told = Runner.JSON.createObjectNode();
    told.put("call_id", result.getCallId())
        .put("name", result.getName())
        .put("content", result.getContent())
        .put("code", String.valueOf(Code.forNumber(result.getStatus().getCode())))
        .put("reason", Results.reasonOf(result))
        .put(
            "execution_state",
            result.getExecutionState().name().substring("EXECUTION_STATE_".length()))
        .put("attempts", result.getAttempts())
        .put("truncated", result.getTruncated())
        .put("replayed", result.getReplayed())
        .put("coalesced", result.getCoalesced())
        .put("approval_id", result.getApprovalId())
        .put("approval_arguments", result.getApprovalArguments());
    ArrayNode parts = told.putArray("parts");
    result.getPartsList().forEach(part -> parts.add(partOf(part)));
    return told;
  }

  private static ObjectNode partOf(ResultPart part) {
    ObjectNode told = Runner.JSON.createObjectNode();
    switch (part.getPartCase()) {
      case BLOB ->
          told.putObject("blob")
              .put("media_type", part.getBlob().getMediaType())
              .put(
                  "data",
                  Base64.getEncoder().encodeToString(part.getBlob().getData().toByteArray()))
              .put("name", part.getBlob().getName());
      case LINK ->
          told.putObject("link")
              .put("uri", part.getLink().getUri())
              .put("media_type", part.getLink().getMediaType())
              .put("name", part.getLink().getName());
      case JSON -> told.put("json", part.getJson());
      case TEXT, PART_NOT_SET -> told.put("text", part.getText());
    }
    return told;
  }
}
