"""What the scripted model says."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A tool call of the model.

    Attributes:
        name: Name of the tool.
        arguments: JSON text, or an object that is made into it.
        id: Its id; None for a fresh one, empty for none at all.
    """

    name: str
    arguments: str | Mapping[str, Any] = ""
    id: str | None = None

    @property
    def text(self) -> str:
        """The arguments as text."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, slots=True)
class ScriptedTurn:
    """One answer of the model.

    Attributes:
        text: Its text.
        calls: Its tool calls.
        refusal: Text of a refusal.
        reasoning: Summary of a reasoning item (Responses API only).
        finish_reason: As the Chat Completions API names it; None for what fits the turn.
        piece_chars: Characters per delta of text and arguments.
        interleave: Whether the deltas of the calls take turns.
        delay_s: Seconds before each chunk of a stream.
        before_chunk: Awaited before each chunk of a stream, with its number from 0.
        break_after: Number of chunks after which a stream breaks off; None for never.
        break_quietly: Whether it then ends like a whole one, only without its last events.
        http_status: Status to answer with instead; None for a normal answer.
        error: Message that goes with `http_status`.
        input_tokens: Tokens to report as read.
        output_tokens: Tokens to report as written.
    """

    text: str = ""
    calls: Sequence[ScriptedCall] = ()
    refusal: str = ""
    reasoning: str = ""
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None = None
    piece_chars: int = 8
    interleave: bool = False
    delay_s: float = 0.0
    before_chunk: Callable[[int], Awaitable[None]] | None = None
    break_after: int | None = None
    break_quietly: bool = False
    http_status: int | None = None
    error: str = "scripted error"
    input_tokens: int = 10
    output_tokens: int = 5

    @property
    def ending(self) -> str:
        """The finish reason in force."""
        return self.finish_reason or ("tool_calls" if self.calls else "stop")


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request that the model received.

    Attributes:
        path: Path of the URL.
        body: The JSON body.
        number: How many requests for an answer came before.
    """

    path: str
    body: dict[str, Any]
    number: int

    @property
    def items(self) -> list[dict[str, Any]]:
        """The conversation: messages, or input items."""
        given = self.body.get("messages", self.body.get("input", []))
        return [{"role": "user", "content": given}] if isinstance(given, str) else given

    @property
    def tool_names(self) -> list[str]:
        """Names of the tools that are offered."""
        tools = self.body.get("tools", [])
        return [tool.get("function", tool).get("name", "") for tool in tools]

    def results(self) -> list[str]:
        """Contents of the tool results since the last message of the user, in order."""
        contents: list[str] = []
        for item in self.items:
            if item.get("role") == "user":
                contents.clear()
            elif item.get("role") == "tool":
                contents.append(item["content"])
            elif item.get("type") == "function_call_output":
                contents.append(item["output"])
        return contents


Reply = ScriptedTurn | Callable[[ModelRequest], ScriptedTurn]
"""A turn, or what makes one of the request."""
