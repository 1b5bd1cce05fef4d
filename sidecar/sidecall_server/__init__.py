"""The Sidecall service: executes the tool calls of language models."""
