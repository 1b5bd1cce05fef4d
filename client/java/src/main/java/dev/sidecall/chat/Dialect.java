package dev.sidecall.chat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.ToolNames;
import dev.sidecall.v1.Tool;
import dev.sidecall.v1.ToolResult;
import java.util.List;
import java.util.Set;

/** How one of the provider's APIs writes conversations. Without I/O. */
interface Dialect {
  /**
   * What each request to the model says.
   *
   * @param model name of the model
   * @param stream whether the answer is streamed
   * @param hint instructions that are sent but not kept in the history; may be empty
   * @param extra further members of the request
   */
  record Settings(String model, boolean stream, String hint, ObjectNode extra) {}

  /**
   * A call without an answer.
   *
   * @param place where to insert one
   * @param call the call
   */
  record OpenCall(int place, ModelCall call) {}

  /** Puts a streamed turn together. */
  interface Assembler {
    /** Takes a chunk in and returns what it brought. */
    List<StreamPart> feed(JsonNode chunk);

    /** Returns the whole turn after the last chunk. */
    ModelTurn finish();
  }

  /** Returns the request of the API. */
  ObjectNode request(
      List<ObjectNode> history, List<Tool> tools, ToolNames names, Settings settings);

  /** Reads a response that was not streamed. */
  ModelTurn parse(JsonNode response);

  /** Returns what puts one streamed response together. */
  Assembler assembler();

  /** Gives the calls in a turn's history items these ids, in order. */
  void setCallIds(List<ObjectNode> items, List<String> callIds);

  /** Returns the history item that answers a call. */
  ObjectNode answer(ModelCall call, String callId, String content);

  /** Replaces the content of an answer, with images and files of results where it can. */
  void setContent(ObjectNode answer, String content, List<ToolResult> results);

  /** Returns the images and files of a call's results that its answer cannot hold. */
  List<ObjectNode> attachedParts(String callId, List<ToolResult> results);

  /** Returns the message that holds them; it follows all answers of the turn. */
  ObjectNode attachedMessage(List<ObjectNode> parts);

  /** Returns the ids of all calls. */
  Set<String> callIds(List<ObjectNode> history);

  /** Finds calls without an answer. */
  List<OpenCall> openCalls(List<ObjectNode> history);
}
