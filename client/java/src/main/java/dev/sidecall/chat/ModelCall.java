package dev.sidecall.chat;

/**
 * A call as the model made it.
 *
 * @param callId id that the provider gave it; may be empty or repeated
 * @param name name that the model wrote
 * @param arguments arguments that the model wrote
 * @param supported whether it is a call of a function; other kinds cannot be run here
 */
record ModelCall(String callId, String name, String arguments, boolean supported) {}
