package dev.sidecall.chat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import com.openai.client.OpenAIClient;
import dev.sidecall.SidecallClient;
import dev.sidecall.internal.Json;
import java.util.ArrayList;
import java.util.List;

/**
 * Drives conversations: model, tool calls, sidecar, tool messages, model.
 *
 * <p>The history that it leaves is valid whatever happens: each tool call is answered, also after
 * an interrupt or an error. One loop runs one conversation at a time.
 */
public final class ChatLoop {
  private final Conversation conversation;

  /**
   * Makes a loop.
   *
   * @param client client of the sidecar
   * @param provider client of the model's provider
   * @param options choices
   */
  public ChatLoop(SidecallClient client, OpenAIClient provider, ChatOptions options) {
    ModelClient model = new ModelClient(provider, options.api());
    conversation = new Conversation(options, client, model, new ArrayList<>());
  }

  /**
   * The conversation so far, in the form that the provider's API takes. While the loop runs it
   * belongs to the loop.
   *
   * @return the items
   */
  public List<ObjectNode> history() {
    return conversation.history();
  }

  /**
   * Asks a question, which goes on with the loop's history; see {@link #run(List)}.
   *
   * @param question the question
   * @return the answer
   * @throws InterruptedException the thread was interrupted
   */
  public ChatResult run(String question) throws InterruptedException {
    conversation.history().add(Json.object().put("role", "user").put("content", question));
    return run(conversation.history());
  }

  /**
   * Asks the model until it answers without calling tools.
   *
   * <p>An interrupt cancels the tool calls in hand and gives up the model's answer; the history can
   * be gone on with.
   *
   * @param messages a conversation, which replaces the history and is extended in place
   * @return the answer
   * @throws dev.sidecall.SidecallException the sidecar cannot be reached or refused a request
   * @throws ModelException the model's answer broke off or cannot be read
   * @throws IllegalArgumentException a tool that was chosen by name is not there
   * @throws com.openai.errors.OpenAIException the provider cannot be reached or refused a request
   * @throws ApprovalHookException the approval hook failed with a checked exception, or for several
   *     calls; all else that a hook throws comes as it is
   * @throws InterruptedException the thread was interrupted
   */
  public ChatResult run(List<ObjectNode> messages) throws InterruptedException {
    return conversation.run(messages);
  }
}
