package dev.sidecall.chat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.v1.ToolResult;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/**
 * A model's turn in the history, its answers filled in as results arrive.
 *
 * <p>The turn and provisional answers to all of its calls enter the history in one step, so
 * whatever interrupts the turn leaves a history that a provider accepts: each call has its answer.
 */
final class TurnRecord {
  private final List<ObjectNode> history;
  private final Dialect dialect;
  private final TurnCalls calls;
  private final boolean attachments;
  private final SortedMap<Integer, ToolResult> results = new TreeMap<>();
  // Which answer a result belongs to.
  private final Map<Integer, Answer> answers = new HashMap<>();
  // Indexes of the calls whose answers are still provisional.
  private final Set<Integer> open = new TreeSet<>();
  // What the message after the answers holds, by index of the call that it belongs to.
  private final SortedMap<Integer, List<ObjectNode>> attached = new TreeMap<>();
  private @Nullable ObjectNode attachedMessage;
  private @Nullable ObjectNode lastAnswer;

  private record Answer(TurnCalls.AnsweredCall call, ObjectNode item) {}

  /**
   * Enters a turn into the history.
   *
   * @param history the conversation
   * @param dialect how its items are written
   * @param turn the model's turn
   * @param calls the turn's calls
   * @param attachments whether images and files of results enter the history
   */
  TurnRecord(
      List<ObjectNode> history,
      Dialect dialect,
      ModelTurn turn,
      TurnCalls calls,
      boolean attachments) {
    this.history = history;
    this.dialect = dialect;
    this.calls = calls;
    this.attachments = attachments;
    dialect.setCallIds(
        turn.items(), calls.answered().stream().map(TurnCalls.AnsweredCall::callId).toList());
    List<ObjectNode> items = new ArrayList<>(turn.items());
    for (TurnCalls.AnsweredCall call : calls.answered()) {
      String content = calls.content(call, results);
      lastAnswer =
          dialect.answer(
              call.call(), call.callId(), content == null ? AnswerTexts.PENDING : content);
      items.add(lastAnswer);
      if (content == null) {
        for (int index : call.indexes()) {
          answers.put(index, new Answer(call, lastAnswer));
        }
      }
    }
    open.addAll(answers.keySet());
    history.addAll(items);
  }

  /** The results so far, by index. */
  synchronized SortedMap<Integer, ToolResult> results() {
    return new TreeMap<>(results);
  }

  /** Takes in a call's result, in place of an earlier one, and fills in its answer. */
  synchronized void addResult(int index, ToolResult result) {
    results.put(index, result);
    Answer answer = answers.get(index);
    String content = answer == null ? null : calls.content(answer.call(), results);
    if (answer != null && content != null) {
      List<Integer> indexes = answer.call().indexes();
      List<ToolResult> shown = new ArrayList<>();
      for (int each : indexes) {
        ToolResult known = results.get(each);
        if (known != null) {
          shown.add(known);
        }
      }
      write(answer, content, shown);
      open.removeAll(indexes);
    }
  }

  /** Makes answers provisional again: their calls are about to be run. */
  synchronized void reopen(Collection<Integer> indexes) {
    for (int index : indexes) {
      Answer answer = answers.get(index);
      if (answer != null) {
        write(answer, AnswerTexts.PENDING, List.of());
        open.addAll(answer.call().indexes());
      }
    }
  }

  /** Answers all calls that have no answer yet with the same content. */
  synchronized void fail(String content) {
    for (int index : open) {
      Answer answer = answers.get(index);
      if (answer != null) {
        write(answer, content, List.of());
      }
    }
    open.clear();
  }

  /** Answers calls that an earlier interruption left without an answer. */
  static void answerOpenCalls(List<ObjectNode> history, Dialect dialect) {
    List<Dialect.OpenCall> found = dialect.openCalls(history);
    for (int last = found.size() - 1; last >= 0; last--) {
      Dialect.OpenCall each = found.get(last);
      history.add(
          each.place(), dialect.answer(each.call(), each.call().callId(), AnswerTexts.PENDING));
    }
  }

  private void write(Answer answer, String content, List<ToolResult> from) {
    List<ToolResult> shown =
        attachments ? from.stream().filter(each -> each.getPartsCount() > 0).toList() : List.of();
    dialect.setContent(answer.item(), content, shown);
    List<ObjectNode> parts = dialect.attachedParts(answer.call().callId(), shown);
    if (!parts.isEmpty() || attached.containsKey(answer.call().first())) {
      attached.put(answer.call().first(), parts);
      attach();
    }
  }

  /** Keeps the message that follows the answers up to date, in call order. */
  private void attach() {
    List<ObjectNode> parts = attached.values().stream().flatMap(List::stream).toList();
    ObjectNode written = dialect.attachedMessage(parts);
    if (attachedMessage == null) {
      attachedMessage = written;
      history.add(placeOf(lastAnswer) + 1, written);
    } else if (!parts.isEmpty()) {
      attachedMessage.setAll(written);
    } else {
      history.remove(placeOf(attachedMessage));
      attachedMessage = null;
    }
  }

  /** The place of an item itself, which is near the end; the last one where it is gone. */
  @SuppressWarnings("ReferenceEquality") // Another item may say the same.
  private int placeOf(@Nullable ObjectNode item) {
    for (int place = history.size() - 1; place >= 0; place--) {
      if (history.get(place) == item) {
        return place;
      }
    }
    return history.size() - 1;
  }
}
