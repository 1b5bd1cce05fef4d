package dev.sidecall;

import dev.sidecall.v1.Schedule;
import dev.sidecall.v1.ToolResult;
import java.util.Iterator;
import java.util.List;

/**
 * The results of a batch, one per call, in call order.
 *
 * @param results the results
 * @param requestId key under which the batch may be sent again without running a call twice: that
 *     of the request, or one that the sidecar made because a call waits for approval; empty where
 *     there is none
 * @param schedule how long the batch took, and why
 */
public record BatchResults(List<ToolResult> results, String requestId, Schedule schedule)
    implements Iterable<ToolResult> {
  /**
   * The result of one call.
   *
   * @param index place of the call in the batch
   * @return the result
   */
  public ToolResult get(int index) {
    return results.get(index);
  }

  @Override
  public Iterator<ToolResult> iterator() {
    return results.iterator();
  }
}
