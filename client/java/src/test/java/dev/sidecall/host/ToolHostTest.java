package dev.sidecall.host;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.Code;
import dev.sidecall.SidecallClient;
import dev.sidecall.SidecallException;
import dev.sidecall.v1.AttachRequest;
import dev.sidecall.v1.Effects;
import dev.sidecall.v1.ExecutionState;
import dev.sidecall.v1.HostAttach;
import dev.sidecall.v1.HostCall;
import dev.sidecall.v1.HostResult;
import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

final class ToolHostTest {
  private static final Duration WAIT = Duration.ofSeconds(60);

  private final CountDownLatch interrupted = new CountDownLatch(1);
  private final CountDownLatch go = new CountDownLatch(1);
  private final List<ToolHost> started = new ArrayList<>();
  private FakeHostService service;
  private SidecallClient client;

  record Sum(int a, @Nullable Integer b) {}

  @BeforeEach
  void open() throws IOException {
    service = new FakeHostService();
    client = service.client().build();
  }

  @AfterEach
  void close() {
    go.countDown();
    started.forEach(ToolHost::close);
    client.close();
    service.close();
  }

  private ToolHost start() {
    ToolHost host = newHost();
    started.add(host);
    return host;
  }

  private ToolHost newHost() {
    return ToolHost.builder(client)
        .name("test")
        .maxConcurrency(3)
        .tool(
            HostedTool.builder("add", "Adds.")
                .effects(Effects.EFFECTS_READ_ONLY)
                .function(Sum.class, (in, call) -> in.a() + (in.b() == null ? 0 : in.b())))
        .tool(HostedTool.builder("wait", "Waits.").function((in, call) -> await()))
        .tool(HostedTool.builder("go", "Waits.").function((in, call) -> awaitGo()))
        .tool(HostedTool.builder("fail", "Fails.").function((in, call) -> fail(in.toString())))
        .tool(HostedTool.builder("large", "Large.").function((in, call) -> "x".repeat(2_000_000)))
        .tool(HostedTool.builder("parts", "Parts.").function((in, call) -> List.of(Part.text("t"))))
        .tool(HostedTool.builder("error", "Bug.").function((in, call) -> overflow()))
        .start();
  }

  private Object await() throws InterruptedException {
    try {
      new CountDownLatch(1).await();
      return "";
    } catch (InterruptedException error) {
      interrupted.countDown();
      throw error;
    }
  }

  private Object awaitGo() throws InterruptedException {
    go.await();
    return "went";
  }

  private static Object fail(String text) throws ToolException {
    if (text.contains("meant")) {
      throw new ToolException("for you", Status.Code.NOT_FOUND, Duration.ofSeconds(2));
    }
    throw new IllegalStateException("secret");
  }

  private static Object overflow() {
    throw new StackOverflowError("secret");
  }

  private static HostResult result(FakeHostService.Attached attached) throws InterruptedException {
    AttachRequest message = attached.next();
    assertTrue(message.hasResult(), message.toString());
    return message.getResult();
  }

  @Test
  void itOffersItsTools() throws InterruptedException {
    ToolHost host = start();
    HostAttach attach = service.next().next().getAttach();
    host.awaitAttached(WAIT);
    assertTrue(host.isAttached());
    assertEquals("test", attach.getHostName());
    assertEquals(3, attach.getMaxConcurrency());
    assertEquals(16 * 1024 * 1024, attach.getMaxMessageBytes());
    assertEquals(
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},"
            + "\"b\":{\"type\":\"integer\"}},\"required\":[\"a\"],"
            + "\"additionalProperties\":false}",
        attach.getTools(0).getInputSchema());
    assertEquals(Effects.EFFECTS_NON_IDEMPOTENT, attach.getTools(1).getEffects());
  }

  @Test
  void itRunsCalls() throws InterruptedException {
    start();
    FakeHostService.Attached attached = service.next();
    assertTrue(attached.next().hasAttach());
    attached.call(1, "add", "{\"a\": 1, \"b\": 2}");
    assertEquals("3", result(attached).getJson());
    attached.call(2, "add", "{\"a\": \"x\"}");
    HostResult wrong = result(attached);
    assertEquals(Code.INVALID_ARGUMENT_VALUE, wrong.getStatus().getCode());
    assertEquals(ExecutionState.EXECUTION_STATE_NOT_STARTED, wrong.getExecutionState());
    assertTrue(wrong.getStatus().getMessage().contains("/a: "), wrong.toString());
    attached.call(3, "parts", "");
    assertEquals("t", result(attached).getParts().getParts(0).getText());
    attached.call(4, "none", "");
    assertEquals(Code.NOT_FOUND_VALUE, result(attached).getStatus().getCode());
  }

  @Test
  void onlyTheTextOfAToolExceptionIsTold() throws InterruptedException {
    start();
    FakeHostService.Attached attached = service.next();
    assertTrue(attached.next().hasAttach());
    attached.call(1, "fail", "{\"meant\": 1}");
    HostResult meant = result(attached);
    assertEquals("for you", meant.getStatus().getMessage());
    assertEquals(Code.NOT_FOUND_VALUE, meant.getStatus().getCode());
    assertEquals(2, meant.getRetryAfter().getSeconds());
    for (String name : List.of("fail", "error")) {
      attached.call(2, name, "{}");
      HostResult other = result(attached);
      assertEquals(Code.UNKNOWN_VALUE, other.getStatus().getCode());
      assertFalse(other.toString().contains("secret"));
      assertEquals(ExecutionState.EXECUTION_STATE_COMPLETED, other.getExecutionState());
    }
  }

  @Test
  void aLargeResultDoesNotBreakTheStream() throws InterruptedException {
    start();
    FakeHostService.Attached attached = service.next();
    assertTrue(attached.next().hasAttach());
    attached.call(1, "large", "");
    assertEquals(Code.RESOURCE_EXHAUSTED_VALUE, result(attached).getStatus().getCode());
    attached.call(2, "add", "{\"a\": 1}");
    assertEquals("1", result(attached).getJson());
  }

  @Test
  void aCancelledCallIsInterrupted() throws InterruptedException {
    start();
    FakeHostService.Attached attached = service.next();
    assertTrue(attached.next().hasAttach());
    attached.call(1, "wait", "");
    attached.cancel(1);
    HostResult result = result(attached);
    assertEquals(Code.CANCELLED_VALUE, result.getStatus().getCode());
    HostCall.Builder late = HostCall.newBuilder().setAttemptId(2).setName("wait");
    late.getTimeoutBuilder().setNanos(50_000_000);
    attached.send(late);
    HostResult expired = result(attached);
    assertEquals(Code.DEADLINE_EXCEEDED_VALUE, expired.getStatus().getCode());
    assertEquals(ExecutionState.EXECUTION_STATE_UNKNOWN, expired.getExecutionState());
  }

  @Test
  void closingDrains() throws InterruptedException {
    ToolHost host = start();
    FakeHostService.Attached attached = service.next();
    assertTrue(attached.next().hasAttach());
    host.awaitAttached(WAIT);
    attached.call(1, "go", "");
    Thread closing = new Thread(host::close);
    closing.start();
    assertTrue(attached.next().hasDrain());
    go.countDown();
    assertEquals("went", result(attached).getText());
    assertEquals("half-closed", attached.ends.poll(WAIT.toSeconds(), TimeUnit.SECONDS));
    closing.join();
    host.awaitClosed();
    assertFalse(host.isAttached());
  }

  @Test
  void whatDoesNotEndIsAbandoned() throws InterruptedException {
    ToolHost host =
        ToolHost.builder(client)
            .tool(HostedTool.builder("wait", "Waits.").function((in, call) -> await()))
            .drainTimeout(Duration.ofMillis(200))
            .start();
    FakeHostService.Attached attached = service.next();
    assertTrue(attached.next().hasAttach());
    host.awaitAttached(WAIT);
    attached.call(1, "wait", "");
    host.close();
    assertTrue(attached.next().hasDrain());
    assertEquals(ExecutionState.EXECUTION_STATE_UNKNOWN, result(attached).getExecutionState());
    assertTrue(interrupted.await(WAIT.toSeconds(), TimeUnit.SECONDS));
  }

  @Test
  void aSidecarThatDrainsIsAttachedToAgain() throws InterruptedException {
    start();
    FakeHostService.Attached first = service.next();
    first.drain();
    assertEquals("half-closed", first.ends.poll(WAIT.toSeconds(), TimeUnit.SECONDS));
    FakeHostService.Attached second = service.next();
    assertTrue(second.next().hasAttach());
    second.fail(Status.UNAVAILABLE.asRuntimeException());
    assertTrue(service.next().next().hasAttach());
  }

  @Test
  void heartbeatsAreSent() throws InterruptedException {
    service.heartbeatInterval =
        com.google.protobuf.Duration.newBuilder().setNanos(5_000_000).build();
    start();
    FakeHostService.Attached attached = service.next();
    assertTrue(attached.next().hasAttach());
    for (int beats = 0; beats < 3; beats++) {
      AttachRequest message = attached.messages.poll(WAIT.toSeconds(), TimeUnit.SECONDS);
      assertTrue(message != null && message.hasHeartbeat());
    }
  }

  @Test
  void aSilentSidecarIsTakenForGone() throws InterruptedException {
    service.silenceTimeout = com.google.protobuf.Duration.newBuilder().setNanos(50_000_000).build();
    start();
    assertEquals("cancelled", service.next().ends.poll(WAIT.toSeconds(), TimeUnit.SECONDS));
    service.silenceTimeout = com.google.protobuf.Duration.getDefaultInstance();
    assertTrue(service.next().next().hasAttach());
  }

  @Test
  void aRefusalForGoodEndsIt() throws InterruptedException {
    service.refusals.add(FakeHostService.refusal(Code.ALREADY_EXISTS, "TOOL_NAME_TAKEN"));
    ToolHost host = start();
    SidecallException error = assertThrows(SidecallException.class, () -> host.awaitAttached(WAIT));
    assertEquals("TOOL_NAME_TAKEN", error.reason());
    assertThrows(SidecallException.class, host::awaitClosed);
  }

  @Test
  void aRefusalForNowIsTriedAgain() throws InterruptedException {
    service.refusals.add(FakeHostService.refusal(Code.UNAVAILABLE, "DRAINING"));
    ToolHost host = start();
    host.awaitAttached(WAIT);
    assertTrue(service.next().next().hasAttach());
  }

  @Test
  void aTokenThatCannotBeReadIsTriedAgain() throws InterruptedException {
    AtomicInteger asked = new AtomicInteger();
    Supplier<String> token =
        () -> {
          if (asked.incrementAndGet() == 1) {
            throw new IllegalStateException("no token yet");
          }
          return "token";
        };
    try (SidecallClient other = service.client().token(token).build();
        ToolHost host = ToolHost.builder(other).start()) {
      host.awaitAttached(WAIT);
      assertEquals(2, asked.get());
    }
  }

  @Test
  void whatMakesNoSenseIsRefused() {
    ToolHost.Builder builder = ToolHost.builder(client);
    assertThrows(IllegalArgumentException.class, () -> builder.maxConcurrency(0));
    assertThrows(IllegalArgumentException.class, () -> builder.name("x".repeat(257)));
    HostedTool.Builder tool = HostedTool.builder("a", "");
    assertThrows(IllegalArgumentException.class, () -> tool.inputSchema("{"));
    assertThrows(IllegalArgumentException.class, () -> tool.function(String.class, (in, c) -> in));
    builder.tool(HostedTool.builder("a", "").function((in, c) -> in));
    HostedTool same = HostedTool.builder("a", "").function((in, c) -> in);
    assertThrows(IllegalArgumentException.class, () -> builder.tool(same));
  }
}
