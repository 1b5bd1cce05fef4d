package dev.sidecall.chat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.BatchOptions;
import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallException;
import dev.sidecall.ToolNames;
import dev.sidecall.v1.Tool;
import dev.sidecall.v1.ToolCall;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/** The loop itself: model, tool calls, results, model. */
final class Conversation {
  private final ChatOptions options;
  private final SidecallClient client;
  private final ModelClient model;
  private final Dialect dialect;
  private final Emitter emitter;
  private List<ObjectNode> history;
  private List<Tool> tools = List.of();
  private ToolNames names = ToolNames.of(List.of());
  private int turn;

  private record Played(ModelTurn model, Turn turn) {}

  Conversation(
      ChatOptions options, SidecallClient client, ModelClient model, List<ObjectNode> history) {
    this.options = options;
    this.client = client;
    this.model = model;
    this.history = history;
    this.emitter = new Emitter(options.hook());
    this.dialect =
        options.api() == ChatApi.RESPONSES ? new ResponsesDialect() : new ChatCompletionsDialect();
  }

  List<ObjectNode> history() {
    return history;
  }

  /** Asks the model until it answers without calling tools. */
  ChatResult run(List<ObjectNode> conversation) throws InterruptedException {
    history = conversation;
    turn = 0;
    TurnRecord.answerOpenCalls(history, dialect);
    try {
      chooseTools();
      return play();
    } catch (RuntimeException error) {
      emitter.report(turn, error);
      throw error;
    }
  }

  private void chooseTools() throws InterruptedException {
    List<Tool> listed = client.listTools();
    Set<String> chosen = options.tools();
    if (chosen != null) {
      Set<String> missing = new TreeSet<>(chosen);
      listed.forEach(tool -> missing.remove(tool.getName()));
      if (!missing.isEmpty()) {
        throw new IllegalArgumentException(
            "the sidecar offers no tool " + String.join(", ", missing));
      }
      listed = listed.stream().filter(tool -> chosen.contains(tool.getName())).toList();
    }
    tools = listed;
    names = ToolNames.ofTools(listed);
  }

  private ChatResult play() throws InterruptedException {
    List<Turn> turns = new ArrayList<>();
    StoppedReason stopped = StoppedReason.MAX_TURNS;
    String text = "";
    String refusal = "";
    Usage usage = Usage.NONE;
    while (turn < options.maxTurns()) {
      turn++;
      emitter.emit(new ChatEvent.TurnStarted(turn));
      Played played = playTurn();
      turns.add(played.turn());
      usage = usage.plus(played.turn().usage());
      text = played.model().text();
      refusal = played.model().refusal();
      StoppedReason end = played.model().end();
      if (end != StoppedReason.COMPLETED || played.model().calls().isEmpty()) {
        stopped = end;
        break;
      }
    }
    return new ChatResult(text, refusal, history, List.copyOf(turns), usage, stopped);
  }

  private Played playTurn() throws InterruptedException {
    TurnCalls announced = newCalls();
    Played played;
    if (options.earlyStart()) {
      try (EarlyCalls early = openEarly()) {
        ModelTurn answer = ask(announced, early);
        played = new Played(answer, runCalls(answer, announced, early));
      }
    } else {
      ModelTurn answer = ask(announced, null);
      played = new Played(answer, runCalls(answer, announced, null));
    }
    Turn ended = played.turn();
    emitter.emit(
        new ChatEvent.TurnFinished(turn, ended.text(), ended.calls().size(), ended.usage()));
    return played;
  }

  private EarlyCalls openEarly() {
    BatchOptions batch = options.batch();
    if (options.resend()) {
      batch = batch.toBuilder().requestId(TurnExecution.newRequestId()).build();
    }
    boolean holdUnstarted = options.approvalHook() != null;
    return new EarlyCalls(turn, client, batch, emitter, options.batchTimeout(), holdUnstarted);
  }

  private TurnCalls newCalls() {
    // The history only grows, so its length tells this turn from all others.
    String prefix = "call_" + history.size() + "_";
    // A tool that was not chosen is not run because a model guesses its name.
    boolean offeredOnly = options.tools() != null;
    return new TurnCalls(names, place -> prefix + place, dialect.callIds(history), offeredOnly);
  }

  private ModelTurn ask(TurnCalls announced, @Nullable EarlyCalls early)
      throws InterruptedException {
    if (Thread.interrupted()) {
      throw new InterruptedException("interrupted before the model was asked");
    }
    Dialect.Settings settings = options.settings();
    ObjectNode request = dialect.request(history, tools, names, settings);
    if (!settings.stream()) {
      ModelTurn answer = dialect.parse(model.create(request));
      if (!answer.text().isEmpty()) {
        emitter.emit(new ChatEvent.TextDelta(turn, answer.text()));
      }
      if (!answer.refusal().isEmpty()) {
        emitter.emit(new ChatEvent.RefusalDelta(turn, answer.refusal()));
      }
      return answer;
    }
    Dialect.Assembler assembler = dialect.assembler();
    try (ModelStream answer = model.stream(request)) {
      for (JsonNode chunk = answer.next(); chunk != null; chunk = answer.next()) {
        for (StreamPart part : assembler.feed(chunk)) {
          takePart(part, announced, early);
        }
      }
    }
    return assembler.finish();
  }

  private void takePart(StreamPart part, TurnCalls announced, @Nullable EarlyCalls early)
      throws InterruptedException {
    if (part instanceof StreamPart.TextPart piece) {
      emitter.emit(
          piece.isRefusal()
              ? new ChatEvent.RefusalDelta(turn, piece.text())
              : new ChatEvent.TextDelta(turn, piece.text()));
    } else if (part instanceof StreamPart.CallDone done) {
      int first = announced.batch().size();
      announced.add(done.call());
      for (int index = first; index < announced.batch().size(); index++) {
        emitter.emit(new ChatEvent.CallReady(turn, index, announced.batch().get(index)));
      }
      if (early != null) {
        early.send(announced);
      }
    } else if (early != null) {
      early.abandon("more of a call arrived after the next one had begun");
    }
  }

  private Turn runCalls(ModelTurn answer, TurnCalls announced, @Nullable EarlyCalls early)
      throws InterruptedException {
    TurnCalls calls = newCalls();
    answer.calls().forEach(calls::add);
    List<ToolCall> batch = calls.batch();
    TurnRecord record = new TurnRecord(history, dialect, answer, calls, options.attachments());
    if (answer.end() == StoppedReason.LENGTH) {
      record.fail(AnswerTexts.NOT_RUN_LENGTH);
    } else if (answer.end() == StoppedReason.CONTENT_FILTER) {
      record.fail(AnswerTexts.NOT_RUN_FILTER);
    } else if (!batch.isEmpty()) {
      for (int index = 0; index < batch.size(); index++) {
        List<ToolCall> told = announced.batch();
        if (index >= told.size() || !told.get(index).equals(batch.get(index))) {
          emitter.emit(new ChatEvent.CallReady(turn, index, batch.get(index)));
        }
      }
      try {
        new TurnExecution(turn, calls, record, options, client, emitter).run(early);
      } catch (SidecallException error) {
        record.fail(AnswerTexts.failed(error));
        throw error;
      }
    }
    return new Turn(
        answer.text(), List.copyOf(batch), List.copyOf(record.results().values()), answer.usage());
  }
}
