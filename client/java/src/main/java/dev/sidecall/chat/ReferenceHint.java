package dev.sidecall.chat;

/** What a model is told about references between calls. */
public final class ReferenceHint {
  private static final String SAME_TURN = "A reference reaches calls of the same turn only.";
  private static final String EARLIER_TURNS =
      "A reference also reaches calls of earlier turns, by the id of the call: "
          + "\"$ref:ID#/city/name\", for example; numbers and names of tools mean calls of the "
          + "same turn only.";

  /** The hint for calls of one turn. */
  public static final String TEXT = text(SAME_TURN);

  /** The hint where a session keeps the results of earlier turns too. */
  public static final String SESSION_TEXT = text(EARLIER_TURNS);

  private ReferenceHint() {}

  private static String text(String reach) {
    return """
        You can call several tools at once, also when one call needs the result of another. In any \
        string argument, refer to the result of an earlier call of the same turn:
        - "$ref:@1" as the whole string is replaced by the result of the first call ("@2" the \
        second, and so on, in the order in which you make the calls; each call counts, also one \
        that fails, and the calls inside multi_tool_use.parallel count one by one, in their place).
        - "$ref:@1#/city/name" is replaced by a part of it (a JSON Pointer).
        - "Report for ${ref:@1#/city/name}" puts it into longer text.
        The type of the value is kept. Independent calls run in parallel and a call with a \
        reference waits for its source, so make all calls that you can foresee in one turn. \
        """
        + reach
        + " For literal text write \"$$ref:\" or \"$${ref:\".";
  }
}
