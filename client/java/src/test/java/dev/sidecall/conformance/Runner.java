package dev.sidecall.conformance;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.openai.client.OpenAIClient;
import dev.sidecall.Sidecall;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Answers requests, one at a time; cancellations at once. */
public final class Runner {
  static final ObjectMapper JSON = new ObjectMapper();

  private final PrintStream output = new PrintStream(System.out, true, StandardCharsets.UTF_8);
  private final Chats chats = new Chats();
  private final Hosts hosts = new Hosts();

  private Runner() {}

  /**
   * Answers until stdin ends.
   *
   * @param arguments none
   * @throws Exception stdin cannot be read
   */
  public static void main(String[] arguments) throws Exception {
    new Runner().serve();
    System.exit(0);
  }

  private void serve() throws IOException {
    ExecutorService requests = Executors.newSingleThreadExecutor();
    try (BufferedReader input =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
      for (String line = input.readLine(); line != null; line = input.readLine()) {
        JsonNode request = JSON.readTree(line);
        if (request.path("kind").asText().equals("cancel")) {
          chats.cancel();
        } else {
          requests.execute(() -> answer(request));
        }
      }
    } finally {
      requests.shutdownNow();
      hosts.close();
    }
  }

  private void answer(JsonNode request) {
    ObjectNode answer = JSON.createObjectNode().put("id", request.path("id").asText());
    try {
      String kind = request.path("kind").asText();
      switch (kind) {
        case "hello" -> answer.setAll(hello());
        case "chat" -> answer.setAll(chats.run(request));
        case "batch" -> answer.setAll(Batches.run(request));
        case "host" -> answer.setAll(hosts.run(request));
        default -> answer.put("unsupported", "there is no kind " + kind);
      }
    } catch (Throwable error) {
      StringWriter text = new StringWriter();
      error.printStackTrace(new PrintWriter(text));
      answer.put("broken", text.toString());
    }
    output.println(answer);
  }

  private static ObjectNode hello() {
    return JSON.createObjectNode()
        .put("language", "java")
        .put("version", Sidecall.VERSION)
        .put("library", "openai-java " + OpenAIClient.class.getPackage().getImplementationVersion())
        .put("protocol", 1);
  }
}
