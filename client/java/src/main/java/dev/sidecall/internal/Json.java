package dev.sidecall.internal;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.core.util.MinimalPrettyPrinter;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;

/** JSON as all clients of the sidecar write it. */
public final class Json {
  /** Reads and writes values; numbers keep their precision. */
  public static final ObjectMapper MAPPER =
      JsonMapper.builder(
              JsonFactory.builder()
                  .streamReadConstraints(
                      StreamReadConstraints.builder().maxStringLength(Integer.MAX_VALUE).build())
                  .disable(JsonWriteFeature.WRITE_HEX_UPPER_CASE)
                  .build())
          .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
          .disable(JsonNodeFeature.STRIP_TRAILING_BIGDECIMAL_ZEROES)
          .build();

  private static final ObjectWriter SPACED = MAPPER.writer(new Spaced());
  private static final ObjectWriter SPACED_ASCII =
      SPACED.with(JsonWriteFeature.ESCAPE_NON_ASCII.mappedFeature());

  private Json() {}

  /**
   * Makes an empty object.
   *
   * @return the object
   */
  public static ObjectNode object() {
    return JsonNodeFactory.instance.objectNode();
  }

  /**
   * Makes an empty list.
   *
   * @return the list
   */
  public static ArrayNode array() {
    return JsonNodeFactory.instance.arrayNode();
  }

  /**
   * Reads JSON text.
   *
   * @param text one JSON value
   * @return the value
   * @throws JsonProcessingException it is none
   */
  public static JsonNode read(String text) throws JsonProcessingException {
    return MAPPER.readTree(text);
  }

  /**
   * Writes a value without spaces.
   *
   * @param value anything that Jackson can write
   * @return JSON text
   * @throws IllegalArgumentException it cannot be written
   */
  public static String write(Object value) {
    return write(MAPPER.writer(), value);
  }

  /**
   * Writes a value with a space after each comma and colon.
   *
   * @param value anything that Jackson can write
   * @return JSON text
   */
  public static String writeSpaced(Object value) {
    return write(SPACED, value);
  }

  /**
   * Writes a value as {@link #writeSpaced}, with escapes for all that is not ASCII.
   *
   * @param value anything that Jackson can write
   * @return JSON text
   */
  public static String writeAscii(Object value) {
    return write(SPACED_ASCII, value);
  }

  private static String write(ObjectWriter writer, Object value) {
    try {
      return writer.writeValueAsString(value);
    } catch (JsonProcessingException error) {
      throw new IllegalArgumentException("the value cannot be written as JSON", error);
    }
  }

  private static final class Spaced extends MinimalPrettyPrinter {
    private static final long serialVersionUID = 1L;

    @Override
    public void writeObjectFieldValueSeparator(JsonGenerator generator) throws IOException {
      generator.writeRaw(": ");
    }

    @Override
    public void writeObjectEntrySeparator(JsonGenerator generator) throws IOException {
      generator.writeRaw(", ");
    }

    @Override
    public void writeArrayValueSeparator(JsonGenerator generator) throws IOException {
      generator.writeRaw(", ");
    }
  }
}
