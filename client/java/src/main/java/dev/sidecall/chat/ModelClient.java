package dev.sidecall.chat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.openai.client.OpenAIClient;
import com.openai.core.JsonValue;
import com.openai.core.ObjectMappers;
import com.openai.core.http.StreamResponse;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.responses.ResponseCreateParams;
import com.openai.models.responses.ResponseStreamEvent;
import java.util.Iterator;
import java.util.function.Consumer;

/** Asks a model by the provider's library, with requests and answers as plain JSON. */
final class ModelClient {
  private final OpenAIClient provider;
  private final ChatApi api;

  ModelClient(OpenAIClient provider, ChatApi api) {
    this.provider = provider;
    this.api = api;
  }

  /** Asks for a whole answer. */
  JsonNode create(ObjectNode request) throws InterruptedException {
    try (ModelStream answer = new ModelStream(chunks -> chunks.accept(ask(request)))) {
      JsonNode whole = answer.next();
      if (whole == null) {
        throw new IllegalStateException("the library gave no answer");
      }
      return whole;
    }
  }

  /** Asks for a streamed answer. */
  ModelStream stream(ObjectNode request) {
    return new ModelStream(
        chunks -> {
          if (api == ChatApi.RESPONSES) {
            try (StreamResponse<ResponseStreamEvent> answer =
                provider.responses().createStreaming(responseParams(request))) {
              readAll(answer.stream().iterator(), chunks);
            }
          } else {
            try (StreamResponse<ChatCompletionChunk> answer =
                provider.chat().completions().createStreaming(completionParams(request))) {
              readAll(answer.stream().iterator(), chunks);
            }
          }
        });
  }

  private JsonNode ask(ObjectNode request) {
    try {
      return api == ChatApi.RESPONSES
          ? tree(provider.responses().create(responseParams(request)))
          : tree(provider.chat().completions().create(completionParams(request)));
    } catch (RuntimeException error) {
      throw ModelStream.unreadable(error);
    }
  }

  private static void readAll(Iterator<?> each, Consumer<JsonNode> chunks) {
    while (hasNext(each)) {
      chunks.accept(tree(each.next()));
    }
  }

  private static boolean hasNext(Iterator<?> chunks) {
    try {
      return chunks.hasNext();
    } catch (RuntimeException error) {
      throw ModelStream.translated(error);
    }
  }

  private static JsonNode tree(Object answer) {
    return ObjectMappers.jsonMapper().valueToTree(answer);
  }

  // Typed parameters would drop, or refuse, what this version of the library does not know.

  @SuppressWarnings("unchecked") // JsonValue is a field of any type; Java sees a raw one.
  private static ChatCompletionCreateParams completionParams(ObjectNode request) {
    ChatCompletionCreateParams.Builder params =
        ChatCompletionCreateParams.builder()
            .messages(JsonValue.from(request.get("messages")))
            .model(request.get("model").textValue());
    request
        .properties()
        .forEach(
            member -> {
              if (!member.getKey().equals("messages") && !member.getKey().equals("model")) {
                params.putAdditionalBodyProperty(
                    member.getKey(), JsonValue.from(member.getValue()));
              }
            });
    return params.build();
  }

  private static ResponseCreateParams responseParams(ObjectNode request) {
    ResponseCreateParams.Builder params = ResponseCreateParams.builder();
    request
        .properties()
        .forEach(
            member ->
                params.putAdditionalBodyProperty(
                    member.getKey(), JsonValue.from(member.getValue())));
    return params.build();
  }
}
