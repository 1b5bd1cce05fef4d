package dev.sidecall;

import dev.sidecall.internal.Durations;
import dev.sidecall.internal.Texts;
import dev.sidecall.v1.Approval;
import dev.sidecall.v1.ExecuteBatchRequest;
import dev.sidecall.v1.ExecutionMode;
import dev.sidecall.v1.FailurePolicy;
import dev.sidecall.v1.StreamStart;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/** What may be said about a batch. What is not said is the sidecar's default. */
public final class BatchOptions {
  private static final BatchOptions DEFAULTS = builder().build();

  private final ExecuteBatchRequest fields;
  private final @Nullable Duration timeout;

  private BatchOptions(ExecuteBatchRequest fields, @Nullable Duration timeout) {
    this.fields = fields;
    this.timeout = timeout;
  }

  /**
   * Options that leave all to the sidecar.
   *
   * @return the options
   */
  public static BatchOptions defaults() {
    return DEFAULTS;
  }

  /**
   * Begins options.
   *
   * @return a builder
   */
  public static Builder builder() {
    return new Builder(ExecuteBatchRequest.newBuilder(), null);
  }

  /**
   * Begins options that differ from these.
   *
   * @return a builder
   */
  public Builder toBuilder() {
    return new Builder(fields.toBuilder(), timeout);
  }

  /**
   * Time for the whole RPC.
   *
   * @return the time; empty for no bound
   */
  public Optional<Duration> timeout() {
    return Optional.ofNullable(timeout);
  }

  /**
   * Key under which the batch may be sent again.
   *
   * @return the key; empty where there is none
   */
  public String requestId() {
    return fields.getRequestId();
  }

  /**
   * Instance of the sidecar that the batch was sent to before.
   *
   * @return the instance; empty where there is none
   */
  public String sentToInstance() {
    return fields.getSentToInstance();
  }

  /**
   * Session of the batch.
   *
   * @return the session; empty where there is none
   */
  public String sessionId() {
    return fields.getSessionId();
  }

  /**
   * Decisions on calls.
   *
   * @return the decisions
   */
  public List<Approval> approvals() {
    return fields.getApprovalsList();
  }

  /** The request of ExecuteBatch without calls. */
  ExecuteBatchRequest.Builder toRequest() {
    return fields.toBuilder();
  }

  /** The message that opens StreamBatch. */
  StreamStart.Builder toStart() {
    StreamStart.Builder start =
        StreamStart.newBuilder()
            .setMode(fields.getMode())
            .setOnFailure(fields.getOnFailure())
            .setMaxConcurrency(fields.getMaxConcurrency())
            .setRequestId(fields.getRequestId())
            .setSessionId(fields.getSessionId())
            .putAllContext(fields.getContextMap())
            .setMaxResponseBytes(fields.getMaxResponseBytes())
            .setDisableReferences(fields.getDisableReferences())
            .addAllApprovals(fields.getApprovalsList())
            .setSentToInstance(fields.getSentToInstance());
    if (fields.hasTimeout()) {
      start.setTimeout(fields.getTimeout());
    }
    return start;
  }

  /** Makes options. */
  public static final class Builder {
    private final ExecuteBatchRequest.Builder fields;
    private @Nullable Duration timeout;

    private Builder(ExecuteBatchRequest.Builder fields, @Nullable Duration timeout) {
      this.fields = fields;
      this.timeout = timeout;
    }

    /**
     * Time for the whole RPC. The sidecar answers shortly before with the results so far.
     *
     * @param value positive
     * @return this
     */
    public Builder timeout(Duration value) {
      timeout = Durations.positive("timeout", value);
      return this;
    }

    /**
     * Time for the batch from its receipt by the sidecar, beside the RPC's own.
     *
     * @param value positive
     * @return this
     */
    public Builder batchTimeout(Duration value) {
      fields.setTimeout(Durations.toProto(Durations.positive("batchTimeout", value)));
      return this;
    }

    /**
     * How the calls are ordered against each other.
     *
     * @param value the mode
     * @return this
     */
    public Builder mode(ExecutionMode value) {
      fields.setMode(value);
      return this;
    }

    /**
     * What a failed call means for the rest.
     *
     * @param value the policy
     * @return this
     */
    public Builder onFailure(FailurePolicy value) {
      fields.setOnFailure(value);
      return this;
    }

    /**
     * Most calls of the batch that run at a time.
     *
     * @param value the number
     * @return this
     */
    public Builder maxConcurrency(int value) {
      fields.setMaxConcurrency(value);
      return this;
    }

    /**
     * Facts about the end user; tools and policies see them, the model does not.
     *
     * @param value the facts
     * @return this
     */
    public Builder context(Map<String, String> value) {
      fields.clearContext();
      value.forEach(
          (name, text) ->
              fields.putContext(Texts.escapeSurrogates(name), Texts.escapeSurrogates(text)));
      return this;
    }

    /**
     * Key under which the batch may be sent again without running a call twice; a UUID, for
     * example. The calls (their timeouts apart), mode, onFailure, context, sessionId and
     * disableReferences must then be the same. Calls that have started go on when the client
     * cancels or loses its connection. A sidecar that is restarted has forgotten it, unless its
     * {@code GetCapabilitiesResponse.durable_requests} says otherwise.
     *
     * @param value the key
     * @return this
     */
    public Builder requestId(String value) {
      fields.setRequestId(Texts.escapeSurrogates(value));
      return this;
    }

    /**
     * Where a batch with the request id was sent before: {@code instance_id} of the sidecar's
     * capabilities, read before that send. Another sidecar that cannot know what has run then
     * refuses, with reason REQUEST_FORGOTTEN, instead of running it again.
     *
     * @param value the instance
     * @return this
     */
    public Builder sentToInstance(String value) {
      fields.setSentToInstance(Texts.escapeSurrogates(value));
      return this;
    }

    /**
     * Session whose earlier results may be referenced, and which gets those of this batch.
     *
     * @param value the session
     * @return this
     */
    public Builder sessionId(String value) {
      fields.setSessionId(Texts.escapeSurrogates(value));
      return this;
    }

    /**
     * Decisions, made by {@link Approvals}, on calls of an earlier send of the same calls; the
     * request id is that of its results.
     *
     * @param value the decisions
     * @return this
     */
    public Builder approvals(Iterable<Approval> value) {
      fields.clearApprovals().addAllApprovals(value);
      return this;
    }

    /**
     * Bytes that the results may take together.
     *
     * @param value the number
     * @return this
     */
    public Builder maxResponseBytes(long value) {
      fields.setMaxResponseBytes(value);
      return this;
    }

    /**
     * Whether argument strings are passed as they are.
     *
     * @param value whether
     * @return this
     */
    public Builder disableReferences(boolean value) {
      fields.setDisableReferences(value);
      return this;
    }

    /**
     * Makes the options.
     *
     * @return the options
     */
    public BatchOptions build() {
      return new BatchOptions(fields.build(), timeout);
    }
  }
}
