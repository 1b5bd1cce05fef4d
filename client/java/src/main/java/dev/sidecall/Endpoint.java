package dev.sidecall;

import java.net.UnixDomainSocketAddress;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * Where a sidecar listens.
 *
 * @param target {@code host:port}, or what was given for a unix socket
 * @param socketPath path of the unix socket; null for TCP
 */
record Endpoint(String target, @Nullable Path socketPath) {
  static final String VARIABLE = "SIDECALL_ENDPOINT";
  static final String DEFAULT = "127.0.0.1:50071";

  private static final String UNIX = "unix:";
  private static final Pattern HOST_AND_PORT = Pattern.compile("([^/]+):([0-9]{1,5})");
  private static final Pattern LOOPBACK = Pattern.compile("(127\\.|localhost:|\\[::1\\]:).*");

  static Endpoint parse(String text) {
    if (text.startsWith(UNIX)) {
      String path = text.substring(UNIX.length());
      path = path.startsWith("//") ? path.substring(2) : path;
      if (!path.isEmpty()) {
        return new Endpoint(text, Path.of(path));
      }
    }
    Matcher parts = HOST_AND_PORT.matcher(text);
    if (!parts.matches() || Integer.parseInt(parts.group(2)) > 65535) {
      throw new IllegalArgumentException(
          "endpoint must be host:port or unix:/path, not \"" + text + "\"");
    }
    return new Endpoint(text, null);
  }

  /** The socket's address; null for TCP. */
  @Nullable UnixDomainSocketAddress socketAddress() {
    return socketPath == null ? null : UnixDomainSocketAddress.of(socketPath);
  }

  /** Whether it is on this machine, where no proxy has a part. */
  boolean isLocal() {
    return socketPath != null || LOOPBACK.matcher(target).matches();
  }
}
