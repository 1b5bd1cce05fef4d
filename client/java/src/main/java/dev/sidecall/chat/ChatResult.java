package dev.sidecall.chat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;

/**
 * What a run came to.
 *
 * @param text the model's answer; empty where it gave none
 * @param refusal the model's refusal; empty where it did not refuse
 * @param messages the whole conversation, valid to be sent again
 * @param turns the model's turns in this run
 * @param usage tokens that the run took
 * @param stoppedReason why it stopped
 */
public record ChatResult(
    String text,
    String refusal,
    List<ObjectNode> messages,
    List<Turn> turns,
    Usage usage,
    StoppedReason stoppedReason) {}
