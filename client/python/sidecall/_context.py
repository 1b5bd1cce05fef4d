"""What a running tool can ask and tell."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sidecall._durations import Timeout, parse_duration


class CallPort(Protocol):
    """The world of one attempt; whoever runs tools provides it."""

    @property
    def cancelled(self) -> bool:
        """Whether the attempt has been told to end."""

    def remaining(self) -> float | None:
        """Seconds until the attempt must end; None for never."""

    def wait_cancelled(self, timeout_s: float | None) -> bool:
        """Blocks the calling thread until the attempt is told to end."""

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Reports progress. May be called from any thread."""

    def output(self, text: str) -> None:
        """Shows part of the output. May be called from any thread."""


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known about the call that a tool runs for; see `ToolContext`."""

    tool_name: str = ""
    call_id: str = ""
    attempt: int = 1
    idempotency_key: str = ""
    caller: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""
    tracestate: str = ""


class ToolContext:
    """Facts about the call that a tool runs for, and means to report on it.

    A tool gets it in the parameter that is annotated with this class. All methods may
    be called from any thread.

    Attributes:
        tool_name: Name under which the tool was called.
        call_id: Id that the model's provider gave the call; may be empty.
        attempt: Number of the attempt, from 1.
        idempotency_key: Tells a repeated call from a new one, for the tool to pass on;
            empty for none.
        caller: Who sent the batch; empty where unknown.
        context: Facts about the end user, as the application sent them.
        traceparent: Trace that the call belongs to (W3C Trace Context); empty without one.
        tracestate: What vendors say about that trace; empty for nothing.
        state: What the `@lifespan` function of the tool's file yielded; None without one.
    """

    __slots__ = (
        "_port",
        "attempt",
        "call_id",
        "caller",
        "context",
        "idempotency_key",
        "state",
        "tool_name",
        "traceparent",
        "tracestate",
    )

    def __init__(self, port: CallPort, facts: CallFacts, state: Any = None) -> None:
        self._port = port
        self.tool_name = facts.tool_name
        self.call_id = facts.call_id
        self.attempt = facts.attempt
        self.idempotency_key = facts.idempotency_key
        self.caller = facts.caller
        self.context = facts.context
        self.traceparent = facts.traceparent
        self.tracestate = facts.tracestate
        self.state = state

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this attempt any more. A thread should then return."""
        return self._port.cancelled

    @property
    def logger(self) -> logging.Logger:
        """A logger of the tool's own, below "sidecall.tools"."""
        return logging.getLogger(f"sidecall.tools.{self.tool_name}")

    def remaining(self) -> float | None:
        """Seconds until the attempt must end, not below 0; None where it may take forever."""
        return self._port.remaining()

    def raise_if_cancelled(self) -> None:
        """Ends the tool if nobody waits for it any more.

        Raises:
            asyncio.CancelledError: The attempt has been told to end.
        """
        if self._port.cancelled:
            raise asyncio.CancelledError

    def wait_cancelled(self, timeout: Timeout | None = None) -> bool:
        """Blocks the calling thread until the attempt is told to end.

        It serves tools that run in threads as a sleep that ends in time. A coroutine is
        cancelled at its `await` instead and must not call this on the event loop.

        Args:
            timeout: Longest time to wait: seconds, or text such as "5s"; None for no bound.

        Returns:
            Whether the attempt has been told to end.
        """
        timeout_s = parse_duration(timeout) if isinstance(timeout, str) else timeout
        return self._port.wait_cancelled(timeout_s)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Reports progress to whoever watches.

        Args:
            done: Work done so far, in the tool's own unit.
            total: All of the work in the same unit; None where unknown.
            message: What the tool is doing.
        """
        self._port.progress(float(done), None if total is None else float(total), message)

    def output(self, text: str) -> None:
        """Shows part of the output to whoever watches. The result is what the tool returns."""
        self._port.output(text)
