"""A model's turn, whichever API it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sidecall._tool_formats import ToolNames
from sidecall.v1.execution_pb2 import ToolResult
from sidecall.v1.tool_pb2 import Tool

HistoryItem = dict[str, Any]
"""An entry of a conversation as its API takes it."""

EndReason = Literal["completed", "length", "content_filter", "refusal"]
"""Why a model ended its turn. "completed" covers turns that end in tool calls."""


class ModelError(Exception):
    """The model's answer broke off or reported an error. Nothing of it was kept."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens.

    Attributes:
        input_tokens: Tokens read by the model.
        output_tokens: Tokens written by the model.
    """

    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """All tokens."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens
        )


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call as the model made it.

    Attributes:
        call_id: Id that the provider gave it; may be empty or repeated.
        name: Name that the model wrote.
        arguments: Arguments that the model wrote.
        supported: Whether it is a call of a function; other kinds cannot be run here.
    """

    call_id: str
    name: str
    arguments: str
    supported: bool = True


@dataclass(frozen=True, slots=True)
class ModelTurn:
    """What a model produced in one turn.

    Attributes:
        text: Its text.
        refusal: Its refusal; empty where it did not refuse.
        calls: Its calls, in the order in which it made them.
        end: Why it ended.
        usage: Tokens that the turn took.
        items: History items of the turn, without answers to its calls.
    """

    text: str
    refusal: str
    calls: tuple[ModelCall, ...]
    end: EndReason
    usage: Usage
    items: list[HistoryItem] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text, or of a refusal."""

    text: str
    is_refusal: bool = False


@dataclass(frozen=True, slots=True)
class CallDone:
    """The model has finished a call, although its turn goes on."""

    call: ModelCall


@dataclass(frozen=True, slots=True)
class CallReopened:
    """More of a call arrived after it had been reported as done."""


StreamPart = TextPart | CallDone | CallReopened


@dataclass(frozen=True, slots=True)
class Settings:
    """What each request to the model says.

    Attributes:
        model: Name of the model.
        stream: Whether the answer is streamed.
        hint: Instructions that are sent but not kept in the history; may be empty.
        extra: Further arguments of the API's `create`.
    """

    model: str
    stream: bool
    hint: str
    extra: Mapping[str, Any]


class Assembler(Protocol):
    """Puts a streamed turn together."""

    def feed(self, chunk: Any) -> Sequence[StreamPart]:
        """Takes a chunk in and returns what it brought.

        Raises:
            ModelError: The chunk reports an error.
        """
        ...

    def finish(self) -> ModelTurn:
        """Returns the whole turn after the last chunk.

        Raises:
            ModelError: The stream broke off.
        """
        ...


class Dialect(Protocol):
    """How one of the provider's APIs writes conversations. Pure: no I/O."""

    def request(
        self, history: Sequence[Any], tools: Sequence[Tool], names: ToolNames, settings: Settings
    ) -> dict[str, Any]:
        """Returns the arguments of the API's `create`."""
        ...

    def parse(self, response: Any) -> ModelTurn:
        """Reads a response that was not streamed.

        Raises:
            ModelError: It reports an error.
        """
        ...

    def assembler(self) -> Assembler:
        """Returns what puts one streamed response together."""
        ...

    def set_call_ids(self, items: list[HistoryItem], call_ids: Sequence[str]) -> None:
        """Gives the calls in a turn's history items these ids, in order."""
        ...

    def answer(self, call: ModelCall, call_id: str, content: str) -> HistoryItem:
        """Returns the history item that answers a call."""
        ...

    def set_content(
        self, answer: HistoryItem, content: str, results: Sequence[ToolResult] = ()
    ) -> None:
        """Replaces the content of an answer, with images and files of results where it can."""
        ...

    def attached_parts(self, call_id: str, results: Sequence[ToolResult]) -> list[HistoryItem]:
        """Returns the images and files of a call's results that its answer cannot hold."""
        ...

    def attached_message(self, parts: Sequence[HistoryItem]) -> HistoryItem:
        """Returns the message that holds them; it follows all answers of the turn."""
        ...

    def call_ids(self, history: Sequence[Any]) -> set[str]:
        """Returns the ids of all calls."""
        ...

    def open_calls(self, history: Sequence[Any]) -> list[tuple[int, ModelCall]]:
        """Finds calls without an answer, each with the place to insert one at."""
        ...
