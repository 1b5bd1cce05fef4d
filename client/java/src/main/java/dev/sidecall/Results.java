package dev.sidecall;

import com.google.rpc.BadRequest;
import com.google.rpc.Code;
import dev.sidecall.internal.StatusDetails;
import dev.sidecall.v1.ToolResult;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** Questions to a result: did it work, and why not. */
public final class Results {
  private Results() {}

  /**
   * What is wrong with one value of a call's arguments.
   *
   * @param field JSON Pointer of its place; empty for the arguments as a whole
   * @param description what is wrong there
   */
  public record Violation(String field, String description) {}

  /**
   * Whether the tool returned.
   *
   * @param result the result
   * @return whether it did
   */
  public static boolean isOk(ToolResult result) {
    return result.getStatus().getCode() == Code.OK_VALUE;
  }

  /**
   * Why the call failed, in UPPER_SNAKE_CASE, for example "TOOL_TIMEOUT".
   *
   * @param result the result
   * @return the sidecar's reason; empty where the call is OK or no reason was given
   */
  public static String reasonOf(ToolResult result) {
    return isOk(result) ? "" : StatusDetails.reasonIn(result.getStatus());
  }

  /**
   * What is wrong with the call's arguments.
   *
   * @param result the result
   * @return one entry per offending value
   */
  public static List<Violation> violationsOf(ToolResult result) {
    List<Violation> violations = new ArrayList<>();
    if (!isOk(result)) {
      for (BadRequest bad : StatusDetails.detailsOf(result.getStatus(), BadRequest.class)) {
        for (BadRequest.FieldViolation violation : bad.getFieldViolationsList()) {
          violations.add(new Violation(violation.getField(), violation.getDescription()));
        }
      }
    }
    return violations;
  }

  /**
   * Time after which the call may be made again.
   *
   * @param result the result
   * @return the time; empty where nothing was said
   */
  public static Optional<Duration> retryAfter(ToolResult result) {
    return isOk(result)
        ? Optional.empty()
        : Optional.ofNullable(StatusDetails.retryDelay(result.getStatus()));
  }
}
