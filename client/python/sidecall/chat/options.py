"""What can be chosen about a chat, and what comes out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sidecall._durations import Timeout, optional_duration_s
from sidecall._requests import ExecuteOptions
from sidecall.chat.approvals import ApprovalHook
from sidecall.chat.events import Hook
from sidecall.chat.hint import REFERENCE_HINT, SESSION_REFERENCE_HINT
from sidecall.chat.model import EndReason, Settings, Usage
from sidecall.v1.execution_pb2 import ToolCall, ToolResult

StoppedReason = EndReason | Literal["max_turns"]
"""Why a chat stopped: why the model's last turn ended, or that it had no turn left."""

_RESERVED = ("model", "messages", "input", "stream", "n")
_RESERVED_BATCH = ("approvals", "request_id", "sent_to_instance")


@dataclass(kw_only=True)
class ChatOptions:
    """Choices of a chat loop.

    Attributes:
        model: Name of the model.
        api: The provider's API to speak.
        stream: Whether the model's answers are streamed.
        early_start: Whether each call is sent when the model has finished that call. Only
            tools that are read_only start before the model's turn is over. Queued,
            started, progress and partial output events are reported with it only.
        max_turns: Most answers of the model in one run.
        hooks: Is told of each event.
        approve: Is asked about each call that needs a human's approval; see `ApprovalHook`.
            None: the model is told that a human has to decide, and goes on.
        reference_hint: Whether the model is told how calls refer to each other's results.
            The hint is sent with each request and never kept in the history.
        attachments: Whether the model is shown the images and files in results. Otherwise it
            reads the line that stands for each, as a model without eyes must.
        tools: Names of the tools to offer; None for all that the caller may use.
        context: Facts about the end user; tools and policies see them, the model does not.
        session_id: Session that keeps the results of all turns, so that calls may refer to
            those of earlier turns by their ids.
        resend: Whether a turn whose connection is lost is sent again, under a request_id, so
            that no call is run twice: a sidecar that was restarted meanwhile and whose
            requests are not durable refuses it, which ends the chat. Calls that have started
            then go on when the chat is cancelled; without it they are cancelled.
        batch_timeout: Time for the tool calls of one turn, from the end of the turn: seconds,
            or text such as "5s". It does not run while humans decide, and begins anew after
            their decisions.
        batch_options: Further options of each batch.
        request_options: Further arguments of the API's `create`; `tools` are added to
            those of the sidecar.
    """

    model: str
    api: Literal["chat_completions", "responses"] = "chat_completions"
    stream: bool = False
    early_start: bool = False
    max_turns: int = 10
    hooks: Hook | None = None
    approve: ApprovalHook | None = None
    reference_hint: bool = False
    attachments: bool = True
    tools: Sequence[str] | None = None
    context: Mapping[str, str] | None = None
    session_id: str | None = None
    resend: bool = False
    batch_timeout: Timeout | None = None
    batch_options: ExecuteOptions = field(default_factory=ExecuteOptions)
    request_options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Checks the choices.

        Raises:
            ValueError: One of them makes no sense.
        """
        if self.api not in ("chat_completions", "responses"):
            raise ValueError(f'api is "chat_completions" or "responses", not {self.api!r}')
        optional_duration_s(self.batch_timeout)
        if self.max_turns < 1:
            raise ValueError(f"max_turns must be at least 1, not {self.max_turns}")
        if reserved := [name for name in _RESERVED if name in self.request_options]:
            raise ValueError(f"request_options may not hold {', '.join(reserved)}")
        if reserved := [name for name in _RESERVED_BATCH if name in self.batch_options]:
            raise ValueError(
                f"batch_options may not hold {', '.join(reserved)}: they belong to one turn"
            )

    def settings(self) -> Settings:
        """What each request to the model says."""
        in_session = self.batch().get("session_id")
        hint = SESSION_REFERENCE_HINT if in_session else REFERENCE_HINT
        return Settings(
            self.model, self.stream, hint if self.reference_hint else "", self.request_options
        )

    def batch(self) -> ExecuteOptions:
        """Options of each batch."""
        options = self.batch_options.copy()
        if self.context is not None:
            options["context"] = self.context
        if self.session_id is not None:
            options["session_id"] = self.session_id
        return options


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the model and what its calls gave.

    Attributes:
        text: What the model wrote.
        calls: The calls as the sidecar was given them, those of a wrapper one by one; one
            that the chat refused to run has no name.
        results: One result per call; none where the turn's calls were not run.
        usage: Tokens that the turn took.
    """

    text: str
    calls: tuple[ToolCall, ...]
    results: tuple[ToolResult, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class ChatResult:
    """What a run came to.

    Attributes:
        text: The model's answer; empty where it gave none.
        refusal: The model's refusal; empty where it did not refuse.
        messages: The whole conversation, valid to be sent again.
        turns: The model's turns in this run.
        usage: Tokens that the run took.
        stopped_reason: Why it stopped.
    """

    text: str
    refusal: str
    messages: list[Any]
    turns: tuple[Turn, ...]
    usage: Usage
    stopped_reason: StoppedReason
