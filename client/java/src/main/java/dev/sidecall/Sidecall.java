package dev.sidecall;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Properties;

/** Facts about this client. */
public final class Sidecall {
  /** Version of the client. */
  public static final String VERSION = readVersion();

  private Sidecall() {}

  private static String readVersion() {
    try (InputStream stream = Sidecall.class.getResourceAsStream("version.properties")) {
      if (stream == null) {
        throw new IllegalStateException("the client's version.properties is missing");
      }
      Properties properties = new Properties();
      properties.load(stream);
      return properties.getProperty("version", "");
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
