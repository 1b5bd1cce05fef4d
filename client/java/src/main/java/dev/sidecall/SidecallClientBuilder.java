package dev.sidecall;

import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptor;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/** Makes a {@link SidecallClient}. */
public final class SidecallClientBuilder {
  /** Largest message sent or received where nothing is said. */
  public static final int DEFAULT_MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

  private static final String MAX_MESSAGE_VARIABLE = "SIDECALL_MAX_INBOUND_MESSAGE_BYTES";

  private final EnvironmentVariables environment;
  private final List<ClientInterceptor> interceptors = new ArrayList<>();
  private @Nullable String endpoint;
  private @Nullable Supplier<String> token;
  private ChannelCredentials credentials = InsecureChannelCredentials.create();
  private Supplier<? extends Map<String, String>> metadata = Map::of;
  private int maxMessageBytes;
  private int retries = Attempts.BY_DEFAULT;

  /** Reads a variable; null where it is not set. */
  @FunctionalInterface
  interface EnvironmentVariables {
    @Nullable String get(String name);
  }

  SidecallClientBuilder(EnvironmentVariables environment) {
    this.environment = environment;
  }

  /**
   * Where the sidecar listens. By default the environment's SIDECALL_ENDPOINT, else
   * 127.0.0.1:50071.
   *
   * @param value {@code host:port} or {@code unix:/path}
   * @return this
   */
  public SidecallClientBuilder endpoint(String value) {
    endpoint = value;
    return this;
  }

  /**
   * A bearer token that is sent with each RPC.
   *
   * @param value the token
   * @return this
   */
  public SidecallClientBuilder token(String value) {
    return token(() -> value);
  }

  /**
   * A bearer token that is asked for before each RPC. What it throws fails the RPC.
   *
   * @param value gives the token
   * @return this
   */
  public SidecallClientBuilder token(Supplier<String> value) {
    token = value;
    return this;
  }

  /**
   * A file with a bearer token, read before each RPC: it may be replaced at any time. Where it
   * cannot be read the RPC fails with an {@link UncheckedIOException}.
   *
   * @param file the file
   * @return this
   */
  public SidecallClientBuilder tokenFile(Path file) {
    return token(
        () -> {
          try {
            return Files.readString(file).strip();
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        });
  }

  /**
   * Speaks TLS with a sidecar whose certificate an authority has signed.
   *
   * @param caFile PEM file of the authority's certificates
   * @return this
   * @throws IOException it cannot be read
   */
  public SidecallClientBuilder tls(Path caFile) throws IOException {
    return credentials(TlsChannelCredentials.newBuilder().trustManager(caFile.toFile()).build());
  }

  /**
   * Speaks mutual TLS.
   *
   * @param caFile PEM file of the authority's certificates
   * @param certFile PEM file of the client's certificate chain
   * @param keyFile PEM file of the client's key, PKCS 8 and not encrypted
   * @return this
   * @throws IOException one of them cannot be read
   */
  public SidecallClientBuilder tls(Path caFile, Path certFile, Path keyFile) throws IOException {
    return credentials(
        TlsChannelCredentials.newBuilder()
            .trustManager(caFile.toFile())
            .keyManager(certFile.toFile(), keyFile.toFile())
            .build());
  }

  /**
   * Credentials of the channel, for all that {@link #tls(Path)} does not offer. By default the
   * connection is plain.
   *
   * @param value the credentials
   * @return this
   */
  public SidecallClientBuilder credentials(ChannelCredentials value) {
    credentials = value;
    return this;
  }

  /**
   * Metadata that is sent with each RPC.
   *
   * @param value texts by name
   * @return this
   */
  public SidecallClientBuilder metadata(Map<String, String> value) {
    Map<String, String> copy = Map.copyOf(value);
    return metadata(() -> copy);
  }

  /**
   * Metadata that is asked for on the calling thread before each RPC: {@code traceparent} and
   * {@code tracestate} of the trace in hand, for example.
   *
   * @param value gives texts by name
   * @return this
   */
  public SidecallClientBuilder metadata(Supplier<? extends Map<String, String>> value) {
    metadata = value;
    return this;
  }

  /**
   * Adds an interceptor of RPCs: that of OpenTelemetry, for example.
   *
   * @param value the interceptor
   * @return this
   */
  public SidecallClientBuilder intercept(ClientInterceptor value) {
    interceptors.add(value);
    return this;
  }

  /**
   * Largest message sent or received. By default the environment's
   * SIDECALL_MAX_INBOUND_MESSAGE_BYTES, else 16 MiB.
   *
   * @param value bytes, positive
   * @return this
   */
  public SidecallClientBuilder maxMessageBytes(int value) {
    if (value <= 0) {
      throw new IllegalArgumentException("maxMessageBytes must be positive, not " + value);
    }
    maxMessageBytes = value;
    return this;
  }

  /**
   * How often an RPC is sent again where that certainly runs no call twice. Pauses grow from 0.1 to
   * 2 seconds. By default often enough to outlast a restart of 3 seconds, and, once the sidecar may
   * have received what was sent, until the RPC's timeout. Where the sidecar asks for a pause of
   * more than 5 seconds that is left to the caller ({@link SidecallException#retryAfter}).
   *
   * @param value 0 or more
   * @return this
   */
  public SidecallClientBuilder retries(int value) {
    if (value < 0) {
      throw new IllegalArgumentException("retries must not be negative, but is " + value);
    }
    retries = value;
    return this;
  }

  /**
   * Makes the client. It connects when it is first used.
   *
   * @return the client
   * @throws IllegalArgumentException the endpoint, or a variable of the environment, makes no sense
   */
  public SidecallClient build() {
    int bytes = maxMessageBytes > 0 ? maxMessageBytes : defaultMessageBytes();
    List<ClientInterceptor> all = new ArrayList<>(interceptors);
    all.add(new RpcMetadata(metadata, token));
    all.add(new MessageLimit(bytes));
    Connection connection = Connection.open(resolveEndpoint(), credentials, bytes, all);
    return new SidecallClient(connection, bytes, retries);
  }

  /** The endpoint that was given, or that of the environment, or the default. */
  Endpoint resolveEndpoint() {
    String given = endpoint;
    if (given == null || given.isEmpty()) {
      given = environment.get(Endpoint.VARIABLE);
    }
    return Endpoint.parse(given == null || given.isEmpty() ? Endpoint.DEFAULT : given);
  }

  private int defaultMessageBytes() {
    String text = environment.get(MAX_MESSAGE_VARIABLE);
    if (text == null || text.isEmpty()) {
      return DEFAULT_MAX_MESSAGE_BYTES;
    }
    try {
      int bytes = Integer.parseInt(text);
      if (bytes > 0) {
        return bytes;
      }
    } catch (NumberFormatException error) {
      // Told below, with the variable's name.
    }
    throw new IllegalArgumentException(
        MAX_MESSAGE_VARIABLE + " must be a number of bytes, not \"" + text + "\"");
  }
}
