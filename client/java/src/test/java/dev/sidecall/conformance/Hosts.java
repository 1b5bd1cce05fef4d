package dev.sidecall.conformance;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;

/** Attaches one host at a time. */
final class Hosts {
  /** Starts or stops the host of a request. */
  ObjectNode run(JsonNode request) {
    return Runner.JSON.createObjectNode().put("unsupported", "no host");
  }

  /** Stops what still runs. */
  void close() {}
}
