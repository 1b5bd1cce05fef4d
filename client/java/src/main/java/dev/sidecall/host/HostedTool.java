package dev.sidecall.host;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.internal.Json;
import dev.sidecall.internal.Texts;
import dev.sidecall.v1.Effects;
import dev.sidecall.v1.Tool;
import dev.sidecall.v1.ToolLimits;
import org.jspecify.annotations.Nullable;

/** A function with what a model and the sidecar need to know about it. */
public final class HostedTool {
  private final Tool description;
  private final Handler handler;

  /** Reads the arguments and runs the function. */
  interface Handler {
    /** Reads the arguments and returns what runs the function with them. */
    Invocation prepare(String arguments) throws JsonProcessingException;
  }

  /** Runs the function with arguments that were read. */
  interface Invocation {
    @Nullable Object run(CallContext context) throws Exception;
  }

  private HostedTool(Tool description, Handler handler) {
    this.description = description;
    this.handler = handler;
  }

  /**
   * Begins a tool.
   *
   * @param name its name, unique in the sidecar
   * @param description what it does, for the model
   * @return a builder
   */
  public static Builder builder(String name, String description) {
    return new Builder(name, description);
  }

  /**
   * Its description as the sidecar is given it.
   *
   * @return the contract's message
   */
  public Tool description() {
    return description;
  }

  Handler handler() {
    return handler;
  }

  /** Makes a tool. */
  public static final class Builder {
    private final Tool.Builder tool = Tool.newBuilder();

    private Builder(String name, String description) {
      if (name.isEmpty()) {
        throw new IllegalArgumentException("a tool needs a name");
      }
      tool.setName(Texts.escapeSurrogates(name))
          .setDescription(Texts.escapeSurrogates(description))
          .setEffects(Effects.EFFECTS_NON_IDEMPOTENT);
    }

    /**
     * What running it may change. By default it is not idempotent: running it twice may do harm.
     *
     * @param value the effects
     * @return this
     */
    public Builder effects(Effects value) {
      tool.setEffects(value);
      return this;
    }

    /**
     * JSON Schema (2020-12) of the arguments, an object schema. By default it is derived from the
     * record that holds them, or allows any object.
     *
     * @param value JSON text
     * @return this
     * @throws IllegalArgumentException it is not a JSON object
     */
    public Builder inputSchema(String value) {
      tool.setInputSchema(checkedSchema("inputSchema", value));
      return this;
    }

    /**
     * JSON Schema of the result.
     *
     * @param value JSON text
     * @return this
     * @throws IllegalArgumentException it is not a JSON object
     */
    public Builder outputSchema(String value) {
      tool.setOutputSchema(checkedSchema("outputSchema", value));
      return this;
    }

    /**
     * Its limits. Those that are unset have the sidecar's defaults.
     *
     * @param value the limits
     * @return this
     */
    public Builder limits(ToolLimits value) {
      tool.setLimits(value);
      return this;
    }

    /**
     * Whether a human decides on each call before it runs.
     *
     * @param value whether
     * @return this
     */
    public Builder requiresApproval(boolean value) {
      tool.setRequiresApproval(value);
      return this;
    }

    /**
     * Template of the key of its lane, over its arguments: calls with one key run one at a time.
     *
     * @param value the template, for example {@code account:{account_id}}
     * @return this
     */
    public Builder lane(String value) {
      tool.setLane(value);
      return this;
    }

    /**
     * Makes the tool of a function that takes its arguments as JSON.
     *
     * @param function the function
     * @return the tool
     */
    public HostedTool function(ToolFunction<ObjectNode> function) {
      if (tool.getInputSchema().isEmpty()) {
        tool.setInputSchema("{\"type\":\"object\"}");
      }
      return new HostedTool(
          tool.build(),
          text -> {
            JsonNode read = Json.read(text);
            ObjectNode arguments = read instanceof ObjectNode object ? object : Json.object();
            return context -> function.call(arguments, context);
          });
    }

    /**
     * Makes the tool of a function that takes its arguments as a record.
     *
     * <p>Where no schema was given it is derived: a component is a property, required unless its
     * type is annotated with JSpecify's {@code @Nullable}; Jackson's annotations say more, {@code
     * JsonPropertyDescription} above all.
     *
     * @param arguments class of the record
     * @param function the function
     * @param <A> the record
     * @return the tool
     */
    public <A> HostedTool function(Class<A> arguments, ToolFunction<A> function) {
      if (tool.getInputSchema().isEmpty()) {
        tool.setInputSchema(Schemas.of(arguments));
      }
      return new HostedTool(
          tool.build(),
          text -> {
            A value = Json.MAPPER.readValue(text, arguments);
            return context -> function.call(value, context);
          });
    }

    private static String checkedSchema(String name, String schema) {
      try {
        if (Json.read(schema) instanceof ObjectNode) {
          return schema;
        }
      } catch (JsonProcessingException error) {
        throw new IllegalArgumentException(name + " is not JSON", error);
      }
      throw new IllegalArgumentException(name + " is not a JSON object");
    }
  }
}
