package dev.sidecall;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.NoSuchElementException;
import org.junit.jupiter.api.Test;

final class ToolNamesTest {
  @Test
  void acceptedNamesStay() {
    ToolNames names = ToolNames.of(List.of("get_weather", "b-2"));
    assertEquals("get_weather", names.toProvider("get_weather"));
    assertEquals(List.of("b-2", "get_weather"), names.providerNames());
  }

  @Test
  void refusedCharactersAreReplaced() {
    ToolNames names = ToolNames.of(List.of("files.read", "wetter ändern"));
    assertEquals("files_read", names.toProvider("files.read"));
    assertEquals("wetter__ndern", names.toProvider("wetter ändern"));
    assertEquals("files.read", names.toTool("files_read"));
  }

  @Test
  void namesThatCollideEndInAHash() {
    ToolNames names = ToolNames.of(List.of("a.b", "a/b", "a_b"));
    assertEquals("a_b", names.toProvider("a_b"));
    // The first digits of the SHA-256 of the name.
    assertEquals("a_b_2e7336dc", names.toProvider("a.b"));
    assertEquals("a/b", names.toTool(names.toProvider("a/b")));
  }

  @Test
  void longNamesAreCut() {
    String name = "x".repeat(100);
    String provider = ToolNames.of(List.of(name)).toProvider(name);
    assertEquals(64, provider.length());
    assertTrue(provider.startsWith("x".repeat(55) + "_"));
  }

  @Test
  void theSpeakerPrefixIsDropped() {
    ToolNames names = ToolNames.of(List.of("files.read"));
    assertEquals("files.read", names.toTool("functions.files_read"));
    assertEquals("functions.other", names.toTool("functions.other"));
  }

  @Test
  void unknownNames() {
    ToolNames names = ToolNames.of(List.of("a"));
    assertFalse(names.contains("b"));
    assertEquals("b", names.toTool("b"));
    assertThrows(NoSuchElementException.class, () -> names.toProvider("b"));
  }
}
