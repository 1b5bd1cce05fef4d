package dev.sidecall.chat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.sidecall.internal.Json;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The calls of one streamed turn, in the order in which the model began them.
 *
 * <p>A call is reported once it and all before it are done, so that calls are reported in the order
 * that they have in the turn.
 */
final class CallSlots {
  private final List<Slot> slots = new ArrayList<>();
  private boolean reopened;

  /** A call that the model is writing. */
  static final class Slot {
    final boolean supported;
    final ObjectNode extra = Json.object();
    String callId;
    String name;
    StringBuilder arguments = new StringBuilder();
    boolean done;
    private @Nullable ModelCall reported;

    Slot(String callId, String name, boolean supported) {
      this.callId = callId;
      this.name = name;
      this.supported = supported;
    }

    /** The call as it stands. */
    ModelCall call() {
      return new ModelCall(callId, name, arguments.toString(), supported);
    }
  }

  /** Begins a call. */
  void add(Slot slot) {
    slots.add(slot);
  }

  List<Slot> all() {
    return slots;
  }

  /** Marks all calls so far as done. */
  void finishAll() {
    slots.forEach(slot -> slot.done = true);
  }

  /** Returns what is new. After a call was reopened, nothing is reported any more. */
  List<StreamPart> report() {
    List<StreamPart> parts = new ArrayList<>();
    if (reopened) {
      return parts;
    }
    for (Slot slot : slots) {
      if (slot.reported != null) {
        if (!slot.reported.equals(slot.call())) {
          reopened = true;
          parts.add(new StreamPart.CallReopened());
          break;
        }
      } else if (slot.done) {
        slot.reported = slot.call();
        parts.add(new StreamPart.CallDone(slot.reported));
      } else {
        break;
      }
    }
    return parts;
  }
}
