"""What the scripted model says."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sidecall._result_formats import ATTACHMENTS_NOTE
from sidecall.scripted.contents import content_parts, is_medium, part_media_type


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
        piece_bytes: Most bytes of a stream that are sent at a time; None for whole events.
        raw: What to answer with as it stands, in place of what the turn would give: the chunks
            or events of a stream, or the one body of an answer that is not streamed.
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
    piece_bytes: int | None = None
    raw: Sequence[Any] = ()
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
                if not _holds_attachments(item):
                    contents.clear()
            elif item.get("role") == "tool":
                contents.append(_text(item["content"]))
            elif item.get("type") == "function_call_output":
                contents.append(_text(item["output"]))
        return contents

    def media_types(self) -> list[str]:
        """Media types of all images and files that are shown to the model, in order."""
        return [
            part_media_type(part)
            for item in self.items
            for part in content_parts(item)
            if is_medium(part)
        ]


def _holds_attachments(message: dict[str, Any]) -> bool:
    """Whether a user message holds images and files of tool results."""
    parts = content_parts(message)
    return bool(parts) and parts[0].get("text") == ATTACHMENTS_NOTE


def _text(content: str | list[dict[str, Any]]) -> str:
    """What a result says, without the images and files that it shows."""
    return content if isinstance(content, str) else str(content[0].get("text", ""))


Reply = ScriptedTurn | Callable[[ModelRequest], ScriptedTurn]
"""A turn, or what makes one of the request."""
