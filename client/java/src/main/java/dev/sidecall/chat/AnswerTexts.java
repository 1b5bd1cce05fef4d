package dev.sidecall.chat;

import dev.sidecall.SidecallException;
import java.util.List;

/** Texts that answer a call which has no result. */
final class AnswerTexts {
  static final String PENDING =
      "CANCELLED: the conversation went on before this call had a result. "
          + "It may have taken effect; check before you call it again.";
  static final String NOT_RUN_LENGTH =
      "NOT RUN: the answer that made this call was cut off at the output limit. None of its "
          + "calls has taken effect.";
  static final String NOT_RUN_FILTER =
      "NOT RUN: the answer that made this call was stopped by a content filter. None of its "
          + "calls has taken effect.";
  static final String APPROVAL_LOST =
      "NOT RUN: a human decided on this call, but too late: the tools no longer know the "
          + "question. Make the call again if it is still wanted.";
  static final String NOT_SUPPORTED = "NOT RUN: only function tools can be called here.";
  static final String NO_RECIPIENT =
      "NOT RUN: each entry of tool_uses needs the name of a tool as recipient_name.";

  private static final int MAX_NAMES = 20;

  private AnswerTexts() {}

  /** Says that a tool was called that the chat does not offer. */
  static String notOffered(String name, List<String> offered) {
    String known = String.join(", ", offered.subList(0, Math.min(MAX_NAMES, offered.size())));
    String more = offered.size() > MAX_NAMES ? ", ..." : "";
    return "NOT RUN: there is no tool " + quoted(name) + ". The tools are: " + known + more + ".";
  }

  /** Says that a whole batch has no results. */
  static String failed(SidecallException error) {
    if (error.notStarted()) {
      return "NOT RUN: the tools cannot be reached at present (" + error.getMessage() + ").";
    }
    return "UNKNOWN: the connection to the tools failed ("
        + error.getMessage()
        + "). This call may have taken effect; check before you call it again.";
  }

  /** A name in quotes that it does not hold, all on one line. */
  private static String quoted(String name) {
    char quote = name.indexOf('\'') >= 0 && name.indexOf('"') < 0 ? '"' : '\'';
    StringBuilder text = new StringBuilder().append(quote);
    for (int place = 0; place < name.length(); place++) {
      char each = name.charAt(place);
      switch (each) {
        case '\n' -> text.append("\\n");
        case '\r' -> text.append("\\r");
        case '\t' -> text.append("\\t");
        case '\\' -> text.append("\\\\");
        default -> {
          if (each == quote) {
            text.append('\\').append(each);
          } else if (each < ' ' || each == '\u007f') {
            text.append("\\x").append(Character.forDigit(each >> 4, 16));
            text.append(Character.forDigit(each & 15, 16));
          } else {
            text.append(each);
          }
        }
      }
    }
    return text.append(quote).toString();
  }
}
