package dev.sidecall.chat;

import dev.sidecall.v1.ToolCall;
import dev.sidecall.v1.ToolResult;
import java.util.List;

/**
 * One turn of the model and what its calls gave.
 *
 * @param text what the model wrote
 * @param calls the calls as the sidecar was given them, those of a wrapper one by one; one that the
 *     chat refused to run has no name
 * @param results one result per call; none where the turn's calls were not run
 * @param usage tokens that the turn took
 */
public record Turn(String text, List<ToolCall> calls, List<ToolResult> results, Usage usage) {}
