package dev.sidecall;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.Code;
import dev.sidecall.v1.BatchEvent;
import dev.sidecall.v1.ExecuteBatchRequest;
import dev.sidecall.v1.StreamBatchRequest;
import dev.sidecall.v1.Tool;
import dev.sidecall.v1.ToolCall;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.Status;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class SidecallClientTest {
  private static final List<ToolCall> CALLS = List.of(ToolCalls.of("a", "{}", "1"));
  private static final BatchOptions REQUEST = BatchOptions.builder().requestId("r").build();

  private FakeSidecar sidecar;
  private SidecallClient client;

  @BeforeEach
  void open() throws IOException {
    sidecar = new FakeSidecar();
    client = sidecar.client().build();
  }

  @AfterEach
  void close() {
    client.close();
    sidecar.close();
  }

  private static RuntimeException lost() {
    return Status.UNAVAILABLE.withDescription("lost").asRuntimeException();
  }

  @Test
  void whatWasRefusedIsSentAgain() throws InterruptedException {
    sidecar.failures.add(FakeSidecar.refusal(Code.UNAVAILABLE, "DRAINING"));
    assertEquals("done", client.executeBatch(CALLS).get(0).getContent());
    assertEquals(2, sidecar.batches.size());
  }

  @Test
  void whatMayHaveStartedIsNot() {
    sidecar.failures.add(lost());
    SidecallException error =
        assertThrows(SidecallException.class, () -> client.executeBatch(CALLS));
    assertEquals(Status.Code.UNAVAILABLE, error.code());
    assertFalse(error.notStarted());
    assertEquals("", error.reason());
    assertEquals(1, sidecar.batches.size());
  }

  @Test
  void aRequestIsSentAgainWithItsInstance() throws InterruptedException {
    sidecar.failures.add(lost());
    assertEquals("r", client.executeBatch(CALLS, REQUEST).requestId());
    ExecuteBatchRequest first = sidecar.batches.take();
    ExecuteBatchRequest second = sidecar.batches.take();
    assertEquals("", first.getSentToInstance());
    assertEquals("instance", second.getSentToInstance());
    assertEquals(first, second.toBuilder().clearSentToInstance().build());
  }

  @Test
  void anErrorSaysWhereARequestMayHaveBeenReceived() throws IOException {
    try (SidecallClient once = sidecar.client().retries(0).build()) {
      sidecar.failures.add(lost());
      SidecallException error =
          assertThrows(SidecallException.class, () -> once.executeBatch(CALLS, REQUEST));
      assertEquals("instance", error.sentToInstance());
    }
  }

  @Test
  void aRefusalSaysItsReason() {
    sidecar.failures.add(FakeSidecar.refusal(Code.INVALID_ARGUMENT, "REQUEST_INVALID"));
    SidecallException error =
        assertThrows(SidecallException.class, () -> client.executeBatch(CALLS));
    assertEquals("REQUEST_INVALID", error.reason());
    assertTrue(error.notStarted());
    assertEquals("INVALID_ARGUMENT/REQUEST_INVALID: refused", error.getMessage());
  }

  @Test
  void toolsAreListedAgainWhereTheyChange() throws InterruptedException {
    sidecar.failures.add(FakeSidecar.refusal(Code.ABORTED, "TOOLS_CHANGED"));
    List<String> names = client.listTools().stream().map(Tool::getName).toList();
    assertEquals(List.of("a", "b"), names);
  }

  @Test
  void whereNobodyListensNothingIsStarted() {
    try (SidecallClient once = sidecar.client().retries(0).build()) {
      sidecar.close();
      SidecallException error =
          assertThrows(SidecallException.class, () -> once.executeBatch(CALLS));
      assertEquals(Status.Code.UNAVAILABLE, error.code());
      assertTrue(error.notStarted());
      Duration soon = Duration.ofMillis(300);
      assertThrows(SidecallException.class, () -> once.waitUntilReady(soon));
    }
  }

  @Test
  void whereNoSocketIsNothingIsStarted(@TempDir Path folder) {
    String endpoint = "unix:" + folder.resolve("none");
    try (SidecallClient once = SidecallClient.builder().endpoint(endpoint).retries(0).build()) {
      SidecallException error =
          assertThrows(SidecallException.class, () -> once.executeBatch(CALLS));
      assertEquals(Status.Code.UNAVAILABLE, error.code());
      assertTrue(error.notStarted(), error.getMessage());
    }
  }

  @Test
  void anInterruptCancelsTheRpc() throws InterruptedException {
    sidecar.answers = false;
    FutureTask<BatchResults> task = new FutureTask<>(() -> client.executeBatch(CALLS));
    Thread thread = new Thread(task);
    thread.start();
    sidecar.batches.take();
    thread.interrupt();
    ExecutionException error = assertThrows(ExecutionException.class, task::get);
    assertInstanceOf(InterruptedException.class, error.getCause());
  }

  @Test
  void theDeadlineOfTheCallerHolds() throws InterruptedException {
    sidecar.answers = false;
    SidecallException error =
        assertThrows(
            SidecallException.class,
            () ->
                client.executeBatch(
                    CALLS, BatchOptions.builder().timeout(Duration.ofMillis(200)).build()));
    assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
    assertFalse(error.notStarted());
  }

  @Test
  void theContextOfGrpcHolds() {
    Context.CancellableContext context = Context.current().withCancellation();
    context.cancel(null);
    SidecallException error =
        assertThrows(SidecallException.class, () -> context.call(() -> client.executeBatch(CALLS)));
    assertEquals(Status.Code.CANCELLED, error.code());
  }

  @Test
  void metadataAndTokenAreSent(@TempDir Path folder) throws Exception {
    Path token = Files.writeString(folder.resolve("token"), "first\n");
    try (SidecallClient known =
        sidecar.client().metadata(Map.of("traceparent", "t")).tokenFile(token).build()) {
      known.getCapabilities();
      Files.writeString(token, "second\n");
      known.getCapabilities();
      Files.delete(token);
      assertThrows(UncheckedIOException.class, known::getCapabilities);
    }
    for (String expected : List.of("Bearer first", "Bearer second")) {
      Metadata sent = sidecar.metadata.take();
      assertEquals(expected, sent.get(text("authorization")));
      assertEquals("t", sent.get(text("traceparent")));
    }
  }

  private static Metadata.Key<String> text(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  @Test
  void aMessageThatIsTooLargeIsNotSent() {
    try (SidecallClient small = sidecar.client().maxMessageBytes(100).build()) {
      List<ToolCall> large = List.of(ToolCalls.of("a", "x".repeat(200)));
      SidecallException error =
          assertThrows(SidecallException.class, () -> small.executeBatch(large));
      assertEquals(Status.Code.RESOURCE_EXHAUSTED, error.code());
    }
  }

  @Test
  void aClosedClientRefuses() {
    client.close();
    assertThrows(IllegalStateException.class, () -> client.executeBatch(CALLS));
  }

  @Test
  void aTurnIsSentCallByCall() throws InterruptedException {
    try (BatchStream turn = client.streamBatch(REQUEST)) {
      assertEquals("instance", turn.sentToInstance());
      BatchEvent accepted = turn.next();
      assertTrue(accepted != null && accepted.hasAccepted());
      turn.send(0, CALLS.get(0));
      assertThrows(IllegalStateException.class, () -> turn.send(0, CALLS.get(0)));
      turn.seal();
      assertThrows(IllegalStateException.class, turn::seal);
      assertEquals("done", turn.results().get(0).getContent());
      assertTrue(turn.summary().isPresent());
      assertNull(turn.next());
      turn.cancel(0);
    }
    assertEquals("r", sidecar.messages.take().getStart().getRequestId());
    assertEquals(CALLS.get(0), sidecar.messages.take().getCall().getCall());
    assertEquals(1, sidecar.messages.take().getSeal().getCallCount());
  }

  @Test
  void aRefusedTurnHasStartedNothing() {
    sidecar.failures.add(FakeSidecar.refusal(Code.RESOURCE_EXHAUSTED, "TOO_MANY_BATCHES"));
    SidecallException error = assertThrows(SidecallException.class, client::streamBatch);
    assertEquals("TOO_MANY_BATCHES", error.reason());
    assertTrue(error.notStarted());
  }

  @Test
  void anAbandonedTurnTakesNoMore() throws InterruptedException {
    try (BatchStream turn = client.streamBatch()) {
      turn.abandon();
      assertThrows(IllegalStateException.class, () -> turn.send(0, CALLS.get(0)));
      assertThrows(IllegalStateException.class, turn::seal);
      assertTrue(turn.results().results().isEmpty());
    }
    StreamBatchRequest only = sidecar.messages.poll(1, TimeUnit.MINUTES);
    assertTrue(only != null && only.hasStart());
  }
}
