package dev.sidecall;

import dev.sidecall.internal.Json;
import dev.sidecall.internal.Texts;
import dev.sidecall.v1.ToolCall;

/** Makes calls. All else that a call may say is set on the contract's message. */
public final class ToolCalls {
  private ToolCalls() {}

  /**
   * Makes a call without an id.
   *
   * @param name name of the tool
   * @param arguments text of a JSON object; empty means {@code {}}
   * @return the call
   */
  public static ToolCall of(String name, String arguments) {
    return of(name, arguments, "");
  }

  /**
   * Makes a call.
   *
   * @param name name of the tool
   * @param arguments text of a JSON object, as the model wrote it; empty means {@code {}}
   * @param callId id that the model's provider gave the call; may be empty or repeated
   * @return the call
   */
  public static ToolCall of(String name, String arguments, String callId) {
    return ToolCall.newBuilder()
        .setId(Texts.escapeSurrogates(callId))
        .setName(Texts.escapeSurrogates(name))
        .setArguments(Texts.escapeSurrogates(arguments))
        .build();
  }

  /**
   * Writes the arguments of a call.
   *
   * @param value a map, a record or whatever else Jackson writes as an object
   * @return JSON text
   * @throws IllegalArgumentException it cannot be written
   */
  public static String arguments(Object value) {
    return Json.write(value);
  }
}
