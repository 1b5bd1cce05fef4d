package dev.sidecall.chat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;

/**
 * What a model produced in one turn.
 *
 * @param text its text
 * @param refusal its refusal; empty where it did not refuse
 * @param calls its calls, in the order in which it made them
 * @param end why it ended
 * @param usage tokens that the turn took
 * @param items history items of the turn, without answers to its calls
 */
record ModelTurn(
    String text,
    String refusal,
    List<ModelCall> calls,
    StoppedReason end,
    Usage usage,
    List<ObjectNode> items) {}
