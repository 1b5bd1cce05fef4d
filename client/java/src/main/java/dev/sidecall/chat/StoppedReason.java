package dev.sidecall.chat;

import java.util.Locale;

/** Why a chat stopped: why the model's last turn ended, or that it had no turn left. */
public enum StoppedReason {
  /** The model answered. */
  COMPLETED,
  /** The answer was cut off at the output limit. */
  LENGTH,
  /** The answer was stopped by a content filter. */
  CONTENT_FILTER,
  /** The model refused. */
  REFUSAL,
  /** The model called tools in the last turn that it had. */
  MAX_TURNS;

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
