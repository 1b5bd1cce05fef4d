package dev.sidecall.chat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.BatchOptions;
import dev.sidecall.internal.Durations;
import dev.sidecall.internal.Json;
import java.time.Duration;
import java.util.Collection;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/** Choices of a chat loop. */
public final class ChatOptions {
  private final Builder chosen;

  private ChatOptions(Builder chosen) {
    this.chosen = chosen;
  }

  /**
   * Begins options.
   *
   * @param model name of the model
   * @return a builder
   */
  public static Builder builder(String model) {
    return new Builder(model);
  }

  ChatApi api() {
    return chosen.api;
  }

  boolean earlyStart() {
    return chosen.earlyStart;
  }

  int maxTurns() {
    return chosen.maxTurns;
  }

  @Nullable Consumer<ChatEvent> hook() {
    return chosen.hook;
  }

  @Nullable ApprovalHook approvalHook() {
    return chosen.approvalHook;
  }

  boolean attachments() {
    return chosen.attachments;
  }

  @Nullable Set<String> tools() {
    return chosen.tools;
  }

  boolean resend() {
    return chosen.resend;
  }

  @Nullable Duration batchTimeout() {
    return chosen.batchTimeout;
  }

  /** Options of each batch. */
  BatchOptions batch() {
    return chosen.batch;
  }

  /** What each request to the model says. */
  Dialect.Settings settings() {
    String hint =
        chosen.batch.sessionId().isEmpty() ? ReferenceHint.TEXT : ReferenceHint.SESSION_TEXT;
    return new Dialect.Settings(
        chosen.model, chosen.stream, chosen.referenceHint ? hint : "", chosen.request);
  }

  /** Makes options. */
  public static final class Builder {
    private static final Set<String> RESERVED = Set.of("model", "messages", "input", "stream", "n");

    private final String model;
    private final ObjectNode request = Json.object();
    private ChatApi api = ChatApi.CHAT_COMPLETIONS;
    private boolean stream;
    private boolean earlyStart;
    private int maxTurns = 10;
    private @Nullable Consumer<ChatEvent> hook;
    private @Nullable ApprovalHook approvalHook;
    private boolean referenceHint;
    private boolean attachments = true;
    private @Nullable Set<String> tools;
    private @Nullable Map<String, String> context;
    private @Nullable String sessionId;
    private boolean resend;
    private @Nullable Duration batchTimeout;
    private BatchOptions batch = BatchOptions.defaults();

    private Builder(String model) {
      this.model = model;
    }

    private Builder(Builder other) {
      this(other.model);
      request.setAll(other.request.deepCopy());
      api = other.api;
      stream = other.stream;
      earlyStart = other.earlyStart;
      maxTurns = other.maxTurns;
      hook = other.hook;
      approvalHook = other.approvalHook;
      referenceHint = other.referenceHint;
      attachments = other.attachments;
      tools = other.tools;
      resend = other.resend;
      batchTimeout = other.batchTimeout;
      BatchOptions.Builder each = other.batch.toBuilder();
      if (other.context != null) {
        each.context(other.context);
      }
      if (other.sessionId != null) {
        each.sessionId(other.sessionId);
      }
      batch = each.build();
    }

    /**
     * The provider's API to speak; Chat Completions by default.
     *
     * @param value the API
     * @return this
     */
    public Builder api(ChatApi value) {
      api = value;
      return this;
    }

    /**
     * Whether the model's answers are streamed.
     *
     * @param value whether
     * @return this
     */
    public Builder stream(boolean value) {
      stream = value;
      return this;
    }

    /**
     * Whether each call is sent when the model has finished that call. Only tools that are
     * read_only start before the model's turn is over. Queued, started, progress and partial output
     * events are reported with it only, by another thread than the one that runs the loop.
     *
     * @param value whether
     * @return this
     */
    public Builder earlyStart(boolean value) {
      earlyStart = value;
      return this;
    }

    /**
     * Most answers of the model in one run; 10 by default.
     *
     * @param value at least 1
     * @return this
     */
    public Builder maxTurns(int value) {
      if (value < 1) {
        throw new IllegalArgumentException("maxTurns must be at least 1, not " + value);
      }
      maxTurns = value;
      return this;
    }

    /**
     * Is told of each event, one at a time. What it throws ends the chat.
     *
     * @param value the hook
     * @return this
     */
    public Builder hook(Consumer<ChatEvent> value) {
      hook = value;
      return this;
    }

    /**
     * Is asked about each call that needs a human's approval. Without it the model is told that a
     * human has to decide, and goes on.
     *
     * @param value the hook
     * @return this
     */
    public Builder approvalHook(ApprovalHook value) {
      approvalHook = value;
      return this;
    }

    /**
     * Whether the model is told how calls refer to each other's results. The hint is sent with each
     * request and never kept in the history.
     *
     * @param value whether
     * @return this
     */
    public Builder referenceHint(boolean value) {
      referenceHint = value;
      return this;
    }

    /**
     * Whether the model is shown the images and files in results, as by default. Otherwise it reads
     * the line that stands for each, as a model without eyes must.
     *
     * @param value whether
     * @return this
     */
    public Builder attachments(boolean value) {
      attachments = value;
      return this;
    }

    /**
     * Names of the tools to offer. By default all that the caller may use.
     *
     * @param value the names, as the sidecar knows them
     * @return this
     */
    public Builder tools(Collection<String> value) {
      tools = Set.copyOf(value);
      return this;
    }

    /**
     * Facts about the end user; tools and policies see them, the model does not.
     *
     * @param value the facts
     * @return this
     */
    public Builder context(Map<String, String> value) {
      context = Map.copyOf(value);
      return this;
    }

    /**
     * Session that keeps the results of all turns, so that calls may refer to those of earlier
     * turns by their ids.
     *
     * @param value the session
     * @return this
     */
    public Builder sessionId(String value) {
      sessionId = value;
      return this;
    }

    /**
     * Whether a turn whose connection is lost is sent again, under a request id, so that no call is
     * run twice: a sidecar that was restarted meanwhile and whose requests are not durable refuses
     * it, which ends the chat. Calls that have started then go on when the chat is interrupted;
     * without it they are cancelled.
     *
     * @param value whether
     * @return this
     */
    public Builder resend(boolean value) {
      resend = value;
      return this;
    }

    /**
     * Time for the tool calls of one turn, from the end of the turn. It does not run while humans
     * decide, and begins anew after their decisions.
     *
     * @param value positive
     * @return this
     */
    public Builder batchTimeout(Duration value) {
      batchTimeout = Durations.positive("batchTimeout", value);
      return this;
    }

    /**
     * Further options of each batch.
     *
     * @param value options without what belongs to one turn: approvals, request id, instance and
     *     timeout
     * @return this
     */
    public Builder batchOptions(BatchOptions value) {
      if (!value.approvals().isEmpty()
          || !value.requestId().isEmpty()
          || !value.sentToInstance().isEmpty()
          || value.timeout().isPresent()) {
        throw new IllegalArgumentException(
            "batchOptions may not hold approvals, requestId, sentToInstance or timeout: "
                + "they belong to one turn");
      }
      batch = value;
      return this;
    }

    /**
     * A further member of each request to the model, {@code temperature} for example; {@code tools}
     * are added to those of the sidecar.
     *
     * @param name name of the member
     * @param value whatever Jackson can write
     * @return this
     */
    public Builder requestOption(String name, Object value) {
      if (RESERVED.contains(name)) {
        throw new IllegalArgumentException("requestOption may not be " + name);
      }
      request.set(name, Json.MAPPER.valueToTree(value));
      return this;
    }

    /**
     * Makes the options.
     *
     * @return the options
     */
    public ChatOptions build() {
      return new ChatOptions(new Builder(this));
    }
  }
}
