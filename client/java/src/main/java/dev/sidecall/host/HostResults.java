package dev.sidecall.host;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonMappingException;
import dev.sidecall.internal.Durations;
import dev.sidecall.internal.Json;
import dev.sidecall.internal.Texts;
import dev.sidecall.v1.AttachRequest;
import dev.sidecall.v1.ExecutionState;
import dev.sidecall.v1.HostResult;
import io.grpc.Status;
import java.lang.System.Logger.Level;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import org.jspecify.annotations.Nullable;

/** What a host answers: results of functions as messages, without the attempt's number. */
final class HostResults {
  private static final System.Logger LOG = System.getLogger("dev.sidecall.host");

  private HostResults() {}

  /** The result of a function that returned. */
  static HostResult returned(String tool, @Nullable Object value) {
    HostResult.Builder result =
        HostResult.newBuilder().setExecutionState(ExecutionState.EXECUTION_STATE_COMPLETED);
    if (value == null) {
      return result.setJson("null").build();
    }
    if (value instanceof CharSequence text) {
      return result.setText(Texts.escapeSurrogates(text.toString())).build();
    }
    List<?> items = value instanceof List<?> list ? list : List.of(value);
    if (!items.isEmpty() && items.stream().allMatch(Part.class::isInstance)) {
      for (Object item : items) {
        result.getPartsBuilder().addParts(((Part) item).message());
      }
      return result.build();
    }
    try {
      return result.setJson(Texts.escapeSurrogates(Json.write(value))).build();
    } catch (IllegalArgumentException error) {
      LOG.log(Level.WARNING, "tool " + tool + " returned what is no JSON", error);
      return failed(
          "Tool '" + tool + "' ran, but its result cannot be passed on: it has no JSON form.",
          Status.Code.UNKNOWN,
          ExecutionState.EXECUTION_STATE_COMPLETED);
    }
  }

  /** The result of a function that threw. Only the text of a ToolException goes to the model. */
  static HostResult thrown(String tool, Throwable error) {
    ExecutionState state = ExecutionState.EXECUTION_STATE_COMPLETED;
    if (error instanceof ToolException meant) {
      String text = meant.getMessage();
      String shown = text == null || text.isEmpty() ? "Tool '" + tool + "' failed." : text;
      HostResult.Builder result = failed(shown, meant.code(), state).toBuilder();
      meant
          .retryAfter()
          .ifPresent(retryAfter -> result.setRetryAfter(Durations.toProto(retryAfter)));
      return result.build();
    }
    String errorId = String.format("%08x", ThreadLocalRandom.current().nextInt());
    LOG.log(Level.ERROR, "tool " + tool + " failed (error " + errorId + ")", error);
    return failed(
        "Tool '" + tool + "' failed with an internal error (id " + errorId + ").",
        Status.Code.UNKNOWN,
        state);
  }

  /** The result of a call whose arguments the function's own types refuse. */
  static HostResult badArguments(JsonProcessingException error) {
    StringBuilder place = new StringBuilder();
    if (error instanceof JsonMappingException mapping) {
      for (JsonMappingException.Reference each : mapping.getPath()) {
        place
            .append('/')
            .append(each.getFieldName() == null ? each.getIndex() : each.getFieldName());
      }
    }
    String where = place.isEmpty() ? "arguments" : place.toString();
    return failed(
        "The arguments are invalid. Correct them and call the tool again:\n- "
            + where
            + ": "
            + error.getOriginalMessage(),
        Status.Code.INVALID_ARGUMENT,
        ExecutionState.EXECUTION_STATE_NOT_STARTED);
  }

  /** The result of a call of a tool that is not here. */
  static HostResult unknownTool(String tool) {
    return failed(
        "There is no tool '" + tool + "' here.",
        Status.Code.NOT_FOUND,
        ExecutionState.EXECUTION_STATE_NOT_STARTED);
  }

  /** The result of a call that nobody waits for. */
  static HostResult givenUp(boolean expired, boolean started) {
    return failed(
        expired ? "The time for the call was over." : "The call was cancelled.",
        expired ? Status.Code.DEADLINE_EXCEEDED : Status.Code.CANCELLED,
        started
            ? ExecutionState.EXECUTION_STATE_UNKNOWN
            : ExecutionState.EXECUTION_STATE_NOT_STARTED);
  }

  /** The result of a call whose function still runs when the host ends. */
  static HostResult abandoned() {
    return failed(
        "The application ended while the tool ran.",
        Status.Code.CANCELLED,
        ExecutionState.EXECUTION_STATE_UNKNOWN);
  }

  /** The message of a result; one that is too large is replaced by a refusal. */
  static AttachRequest fitting(HostResult result, long maxBytes) {
    AttachRequest message = AttachRequest.newBuilder().setResult(result).build();
    int size = message.getSerializedSize();
    if (size <= maxBytes) {
      return message;
    }
    HostResult refusal =
        failed(
            "The tool ran, but its result of "
                + size
                + " bytes is larger than the "
                + maxBytes
                + " bytes that are allowed, and was thrown away. The same call gives the same "
                + "again: ask for less, for example with a narrower query, fewer fields, or one "
                + "page at a time.",
            Status.Code.RESOURCE_EXHAUSTED,
            result.getExecutionState());
    return AttachRequest.newBuilder()
        .setResult(refusal.toBuilder().setAttemptId(result.getAttemptId()))
        .build();
  }

  private static HostResult failed(String message, Status.Code code, ExecutionState state) {
    HostResult.Builder result = HostResult.newBuilder().setExecutionState(state);
    result.getStatusBuilder().setCode(code.value()).setMessage(Texts.escapeSurrogates(message));
    return result.build();
  }
}
