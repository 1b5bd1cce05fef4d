package dev.sidecall.conformance;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.chat.ChatEvent;
import dev.sidecall.v1.BlockCause;
import dev.sidecall.v1.Decision;
import java.util.Locale;

/** Tells events of chats. */
final class Events {
  private Events() {}

  /** Tells an event. */
  static ObjectNode eventOf(ChatEvent event) {
    String kind =
        event
            .getClass()
            .getSimpleName()
            .replaceAll("(?<=.)([A-Z])", "_$1")
            .toLowerCase(Locale.ROOT);
    ObjectNode told = Runner.JSON.createObjectNode().put("event", kind).put("turn", event.turn());
    if (event instanceof ChatEvent.CallEvent call) {
      told.put("index", call.index());
    }
    members(event, told);
    return told;
  }

  private static void members(ChatEvent event, ObjectNode told) {
    if (event instanceof ChatEvent.TextDelta delta) {
      told.put("text", delta.text());
    } else if (event instanceof ChatEvent.RefusalDelta delta) {
      told.put("text", delta.text());
    } else if (event instanceof ChatEvent.CallReady ready) {
      told.putObject("call")
          .put("id", ready.call().getId())
          .put("name", ready.call().getName())
          .put("arguments", ready.call().getArguments());
    } else if (event instanceof ChatEvent.CallQueued queued) {
      boolean known = queued.cause() != BlockCause.UNRECOGNIZED;
      told.put("cause", known ? queued.cause().name() : "BLOCK_CAUSE_UNSPECIFIED");
      ArrayNode waitingFor = told.putArray("waiting_for");
      queued.waitingFor().forEach(waitingFor::add);
    } else if (event instanceof ChatEvent.CallStarted started) {
      told.put("attempt", started.attempt());
    } else if (event instanceof ChatEvent.CallProgress progress) {
      told.put("progress", progress.progress()).put("message", progress.message());
      progress.total().ifPresent(total -> told.put("total", total));
    } else if (event instanceof ChatEvent.CallPartialOutput output) {
      told.put("text", output.text());
    } else if (event instanceof ChatEvent.CallFinished finished) {
      told.set("result", Clients.resultOf(finished.result()));
    } else if (event instanceof ChatEvent.ApprovalRequested asked) {
      told.put("call_id", asked.callId())
          .put("tool_name", asked.toolName())
          .put("arguments", asked.arguments());
    } else if (event instanceof ChatEvent.ApprovalDecided decided) {
      told.put(
          "decision",
          decided
              .approval()
              .map(each -> each.getDecision() == Decision.DECISION_APPROVE ? "approve" : "reject")
              .orElse("open"));
    } else if (event instanceof ChatEvent.EarlyStartAbandoned abandoned) {
      told.put("reason", abandoned.reason());
    } else if (event instanceof ChatEvent.TurnFinished finished) {
      told.put("text", finished.text()).put("call_count", finished.callCount());
      told.putObject("usage")
          .put("input_tokens", finished.usage().inputTokens())
          .put("output_tokens", finished.usage().outputTokens());
    } else if (event instanceof ChatEvent.ErrorOccurred occurred) {
      told.set("error", Clients.errorOf(occurred.error()));
    }
  }
}
