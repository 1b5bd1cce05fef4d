/**
 * The chat loop: a model's tool calls, run in a sidecar, until the model answers.
 *
 * <p>{@link dev.sidecall.chat.ChatLoop} is where to start. This package needs the optional
 * dependency {@code com.openai:openai-java}.
 */
@NullMarked
package dev.sidecall.chat;

import org.jspecify.annotations.NullMarked;
