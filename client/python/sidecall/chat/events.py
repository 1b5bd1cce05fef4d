"""What happens in a chat, for whoever watches."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sidecall.chat.model import Usage
from sidecall.v1.execution_pb2 import Approval, ToolCall, ToolResult


@dataclass(frozen=True, slots=True)
class ChatEvent:
    """Something that happened in a chat.

    Attributes:
        turn: Number of the model turn, counted from 1.
    """

    turn: int


@dataclass(frozen=True, slots=True)
class TurnStarted(ChatEvent):
    """The model is about to be asked."""


@dataclass(frozen=True, slots=True)
class TextDelta(ChatEvent):
    """The model wrote text; without streaming, all of it at once.

    Attributes:
        text: What it wrote.
    """

    text: str


@dataclass(frozen=True, slots=True)
class RefusalDelta(ChatEvent):
    """The model wrote a part of a refusal.

    Attributes:
        text: What it wrote.
    """

    text: str


@dataclass(frozen=True, slots=True)
class CallEvent(ChatEvent):
    """Something that happened to a tool call.

    Attributes:
        index: Position of the call among those of its turn, counted from 0.
    """

    index: int


@dataclass(frozen=True, slots=True)
class CallReady(CallEvent):
    """The model has finished a call.

    Attributes:
        call: The call as the sidecar is given it; one that the chat refuses to run has
            no name.
    """

    call: ToolCall


@dataclass(frozen=True, slots=True)
class CallQueued(CallEvent):
    """A call waits. Reported with early start only.

    Attributes:
        cause: Name of the contract's BlockCause, for example "BLOCK_CAUSE_REFERENCE".
        waiting_for: Indexes of the calls that it depends on and that are not final.
    """

    cause: str
    waiting_for: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CallStarted(CallEvent):
    """An attempt of a call was started. Reported with early start only.

    Attributes:
        attempt: Number of the attempt, counted from 1.
    """

    attempt: int


@dataclass(frozen=True, slots=True)
class CallProgress(CallEvent):
    """A running tool reported progress. Reported with early start only.

    Attributes:
        progress: Work done so far, in the tool's own unit.
        total: All of the work in the same unit; None where the tool does not know it.
        message: What the tool is doing.
    """

    progress: float
    total: float | None
    message: str


@dataclass(frozen=True, slots=True)
class CallPartialOutput(CallEvent):
    """A running tool produced part of its output. Reported with early start only.

    Attributes:
        text: The part.
    """

    text: str


@dataclass(frozen=True, slots=True)
class CallFinished(CallEvent):
    """A call has its result.

    Where the chat has an `approve` hook, calls that were not started are reported after
    the decisions, which may start them. A call whose end was unknown is reported again
    where the turn was sent again and told it.

    Attributes:
        result: The result.
    """

    result: ToolResult


@dataclass(frozen=True, slots=True)
class ApprovalRequested(CallEvent):
    """A call waits for a human, and the chat's `approve` hook is asked next.

    Attributes:
        call_id: Id of the call.
        tool_name: Name of the tool, as the sidecar knows it.
        arguments: JSON text of what the call would run with: references resolved, defaults
            applied.
        approval_id: Id under which the decision is made.
        request_id: Id under which the turn's calls are sent again with a decision that
            comes later; see `ExecuteOptions.approvals`.
    """

    call_id: str
    tool_name: str
    arguments: str
    approval_id: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalDecided(CallEvent):
    """A human was asked about a call. The decision takes effect once all have answered.

    Attributes:
        approval: The decision; None where the question was left open.
    """

    approval: Approval | None


@dataclass(frozen=True, slots=True)
class EarlyStartAbandoned(ChatEvent):
    """Calls that were sent early are void; the turn is sent again as one batch.

    Attributes:
        reason: Why.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class TurnFinished(ChatEvent):
    """The model's turn is over and each of its calls is answered.

    Attributes:
        text: What the model wrote in the turn.
        call_count: How many calls it made.
        usage: Tokens that the turn took.
    """

    text: str
    call_count: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class ErrorOccurred(ChatEvent):
    """The chat ends with an exception, which `run` raises next.

    Attributes:
        error: The exception.
    """

    error: Exception


Hook = Callable[[ChatEvent], Awaitable[None] | None]
"""Is told of each event, one at a time. It may be a coroutine function, except in a
SyncChatLoop. What it raises ends the chat."""


class Emitter:
    """Tells a hook of events, one at a time.

    Args:
        hook: Is told; None for nobody.
    """

    def __init__(self, hook: Hook | None) -> None:
        self._hook = hook
        self._turn_taking = asyncio.Lock()
        self._raised: BaseException | None = None

    @property
    def is_telling(self) -> bool:
        """Whether the hook is busy with an event."""
        return self._turn_taking.locked()

    async def __call__(self, event: ChatEvent) -> None:
        """Tells the hook."""
        if self._hook is None:
            return
        async with self._turn_taking:
            try:
                told = self._hook(event)
                if inspect.isawaitable(told):
                    await told
            except BaseException as error:
                self._raised = error
                raise

    async def report(self, turn: int, error: Exception) -> None:
        """Tells the hook of an error, except of one that it raised itself."""
        if error is not self._raised:
            await self(ErrorOccurred(turn, error))
