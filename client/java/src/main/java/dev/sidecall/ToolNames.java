package dev.sidecall;

import dev.sidecall.v1.Tool;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;

/**
 * Names of tools and the names that a provider accepts for them, there and back.
 *
 * <p>An accepted name stays as it is. In others each refused character becomes "_"; where the
 * outcome is too long or not unique, a short hash of the name ends it. The order of the names does
 * not matter.
 */
public final class ToolNames {
  private static final Pattern ACCEPTED = Pattern.compile("[a-zA-Z0-9_-]{1,64}");
  private static final Pattern REFUSED_CHARACTER = Pattern.compile("[^a-zA-Z0-9_-]");
  private static final int MAX_LENGTH = 64;
  private static final int MIN_HASH_LENGTH = 8;
  private static final String SPEAKER_PREFIX = "functions.";

  private final Map<String, String> toProvider = new HashMap<>();
  private final Map<String, String> toTool = new TreeMap<>();

  private ToolNames(Collection<String> names) {
    Set<String> known = new TreeSet<>(names);
    List<String> others = new ArrayList<>();
    Map<String, Integer> wanted = new HashMap<>();
    for (String name : known) {
      if (isAccepted(name)) {
        add(name, name);
      } else {
        others.add(name);
        wanted.merge(plain(name), 1, Integer::sum);
      }
    }
    Set<String> accepted = new HashSet<>(toTool.keySet());
    List<String> hashed = new ArrayList<>();
    for (String name : others) {
      String candidate = plain(name);
      boolean unique = wanted.getOrDefault(candidate, 0) == 1 && !accepted.contains(candidate);
      if (unique && isAccepted(candidate)) {
        add(name, candidate);
      } else {
        hashed.add(name);
      }
    }
    for (String name : hashed) {
      add(name, hashed(name));
    }
  }

  /**
   * Maps the names of tools.
   *
   * @param names the names
   * @return the mapping
   */
  public static ToolNames of(Collection<String> names) {
    return new ToolNames(names);
  }

  /**
   * Maps the names of tools.
   *
   * @param tools from {@link SidecallClient#listTools}
   * @return the mapping
   */
  public static ToolNames ofTools(Collection<Tool> tools) {
    return new ToolNames(tools.stream().map(Tool::getName).toList());
  }

  /**
   * Returns the provider's name of a tool.
   *
   * @param name name of the tool
   * @return the provider's name
   * @throws NoSuchElementException there is no such tool
   */
  public String toProvider(String name) {
    String provider = toProvider.get(name);
    if (provider == null) {
      throw new NoSuchElementException("there is no tool \"" + name + "\"");
    }
    return provider;
  }

  /**
   * Returns the tool that a model means.
   *
   * @param name the name that the model wrote
   * @return the tool's name; a name that nobody knows stays as it is
   */
  public String toTool(String name) {
    String tool = toTool.get(name);
    if (tool != null) {
      return tool;
    }
    if (!toProvider.containsKey(name) && name.startsWith(SPEAKER_PREFIX)) {
      String bare = name.substring(SPEAKER_PREFIX.length());
      if (toTool.containsKey(bare) || toProvider.containsKey(bare)) {
        return toTool.getOrDefault(bare, bare);
      }
    }
    return name;
  }

  /**
   * Whether a tool has this name.
   *
   * @param name name of the tool
   * @return whether one has
   */
  public boolean contains(String name) {
    return toProvider.containsKey(name);
  }

  /**
   * All names that the provider is given, sorted.
   *
   * @return the names
   */
  public List<String> providerNames() {
    return List.copyOf(toTool.keySet());
  }

  private void add(String name, String provider) {
    toProvider.put(name, provider);
    toTool.put(provider, name);
  }

  private String hashed(String name) {
    String digest = sha256(name);
    String plain = plain(name);
    for (int length = MIN_HASH_LENGTH; length < MAX_LENGTH; length++) {
      int kept = Math.min(plain.length(), MAX_LENGTH - length - 1);
      String candidate = plain.substring(0, kept) + "_" + digest.substring(0, length);
      if (!toTool.containsKey(candidate)) {
        return candidate;
      }
    }
    throw new IllegalArgumentException("no name is free for the tool \"" + name + "\"");
  }

  private static boolean isAccepted(String name) {
    return ACCEPTED.matcher(name).matches();
  }

  private static String plain(String name) {
    return REFUSED_CHARACTER.matcher(name).replaceAll("_");
  }

  private static String sha256(String name) {
    try {
      byte[] digest =
          MessageDigest.getInstance("SHA-256").digest(name.getBytes(StandardCharsets.UTF_8));
      return HexFormat.of().formatHex(digest);
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException("every Java platform has SHA-256", error);
    }
  }
}
