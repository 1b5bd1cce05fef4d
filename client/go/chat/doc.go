// Package chat drives conversations of a language model whose tool calls run in a Sidecall
// sidecar: model, tool calls, sidecar, tool messages, model, until the model answers.
//
// It speaks the Chat Completions and the Responses API through the openai-go library. Package
// sidecall does not import it: who drives a loop of its own gets no provider's library.
package chat
