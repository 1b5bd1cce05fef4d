package dev.sidecall.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import org.junit.jupiter.api.Test;

final class JsonTest {
  @Test
  void numbersKeepTheirPrecision() throws JsonProcessingException {
    String text = "[9007199254740993,123456789012345678901234567890,0.10,1.5]";
    assertEquals(text, Json.write(Json.read(text)));
  }

  @Test
  void spacesAndEscapes() throws JsonProcessingException {
    JsonNode value = Json.read("{\"a\":[1,\"é\\n\"],\"b\":{}}");
    assertEquals("{\"a\": [1, \"é\\n\"], \"b\": {}}", Json.writeSpaced(value));
    assertEquals("{\"a\": [1, \"\\u00e9\\n\"], \"b\": {}}", Json.writeAscii(value));
  }

  @Test
  void loneSurrogatesAreEscaped() {
    assertEquals("a\\ud800b\\udc00", Texts.escapeSurrogates("a\ud800b\udc00"));
    String whole = "a😀b";
    assertSame(whole, Texts.escapeSurrogates(whole));
    assertEquals("😀\\ud83d", Texts.escapeSurrogates("😀\ud83d"));
  }
}
