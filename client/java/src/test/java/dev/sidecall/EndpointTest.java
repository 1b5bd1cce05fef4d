package dev.sidecall;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

final class EndpointTest {
  @Test
  void aSocketHasAPath() {
    assertEquals(Path.of("/run/s.sock"), Endpoint.parse("unix:/run/s.sock").socketPath());
    assertEquals(Path.of("/run/s.sock"), Endpoint.parse("unix:///run/s.sock").socketPath());
    assertTrue(Endpoint.parse("unix:/run/s.sock").isLocal());
  }

  @Test
  void aHostHasAPort() {
    assertNull(Endpoint.parse("sidecar.example:50071").socketPath());
    assertFalse(Endpoint.parse("sidecar.example:50071").isLocal());
    assertTrue(Endpoint.parse("127.0.0.1:50071").isLocal());
    assertTrue(Endpoint.parse("[::1]:50071").isLocal());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"", "localhost", ":1", "host:", "host:x", "http://host:1", "host:65536", "unix:"})
  void whatMakesNoSenseIsRefused(String text) {
    IllegalArgumentException error =
        assertThrows(IllegalArgumentException.class, () -> Endpoint.parse(text));
    assertTrue(String.valueOf(error.getMessage()).contains("\"" + text + "\""));
  }

  @Test
  void theArgumentGoesBeforeTheEnvironment() {
    Map<String, String> set = Map.of(Endpoint.VARIABLE, "host:1");
    SidecallClientBuilder builder = new SidecallClientBuilder(set::get);
    assertEquals("host:1", builder.resolveEndpoint().target());
    assertEquals("host:2", builder.endpoint("host:2").resolveEndpoint().target());
    Map<String, String> empty = Map.of(Endpoint.VARIABLE, "");
    assertEquals(
        Endpoint.DEFAULT, new SidecallClientBuilder(empty::get).resolveEndpoint().target());
  }

  @Test
  void theMessageSizeIsThatOfTheEnvironment() {
    Map<String, String> set = Map.of("SIDECALL_MAX_INBOUND_MESSAGE_BYTES", "1000");
    try (SidecallClient client = new SidecallClientBuilder(set::get).build()) {
      assertEquals(1000, client.maxMessageBytes());
    }
    try (SidecallClient client = new SidecallClientBuilder(name -> null).build()) {
      assertEquals(16 * 1024 * 1024, client.maxMessageBytes());
    }
    Map<String, String> wrong = Map.of("SIDECALL_MAX_INBOUND_MESSAGE_BYTES", "many");
    assertThrows(
        IllegalArgumentException.class, () -> new SidecallClientBuilder(wrong::get).build());
  }
}
