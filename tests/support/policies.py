"""Policies in short words, and tools that tell when they started and end as they are told."""

import asyncio
import copy
from collections.abc import Sequence
from typing import Any

from tests.support.clock import FakeClock, settle

from sidecall_server.core.call import BlockCause, Call
from sidecall_server.core.events import CallEvent, Queued, Started
from sidecall_server.core.outcome import (
    Code,
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    Success,
    not_started,
)
from sidecall_server.core.tool import Breaker, Effects, Rate, Retry

SECOND_NS = 1_000_000_000
READ_ONLY = {"effects": Effects.READ_ONLY}


def per_second(count: int = 1, burst: int = 1) -> Rate:
    """A rate."""
    return Rate(count, SECOND_NS, burst)


def every(seconds: int, burst: int = 1) -> Rate:
    """A rate of less than one per second."""
    return Rate(1, seconds * SECOND_NS, burst)


def retry(max_attempts: int = 3, **changes: Any) -> Retry:
    """Retries after one, two, four, ... seconds at most, after UNAVAILABLE."""
    values: dict[str, Any] = {
        "backoff_s": 1.0,
        "max_backoff_s": 60.0,
        "budget": 1.0,
        "codes": frozenset({Code.UNAVAILABLE}),
    }
    return Retry(max_attempts, **{**values, **changes})


def breaker(**changes: Any) -> Breaker:
    """A breaker that opens for ten seconds after two failures out of two."""
    values: dict[str, Any] = {
        "failure_ratio": 1.0,
        "min_attempts": 2,
        "window_s": 60.0,
        "open_s": 10.0,
        "probes": 1,
    }
    return Breaker(**{**values, **changes})


def unavailable(retry_after_s: float | None = None) -> Failure:
    """A tool that says that it cannot at present."""
    return Failure(
        Reason.TOOL_FAILED,
        "It cannot at present.",
        ExecutionState.COMPLETED,
        Code.UNAVAILABLE,
        retry_after_s=retry_after_s,
    )


def broken() -> Failure:
    """A tool that failed for good."""
    return Failure(Reason.TOOL_FAILED, "It is broken.", ExecutionState.COMPLETED, Code.INTERNAL)


def no_worker() -> Failure:
    """A tool that could not be started."""
    return not_started(Reason.TOOL_UNAVAILABLE, "There is no process for it.")


class Watch:
    """Watches a batch.

    Attributes:
        events: What was reported.
    """

    def __init__(self) -> None:
        self.events: list[CallEvent] = []

    def __call__(self, event: CallEvent) -> None:
        """Takes note of an event."""
        self.events.append(event)

    @property
    def queued(self) -> list[tuple[int, BlockCause]]:
        """Positions of calls that had to wait, and for what."""
        return [(e.index, BlockCause(e.cause)) for e in self.events if isinstance(e, Queued)]

    @property
    def started(self) -> list[tuple[int, int]]:
        """Positions of calls, and numbers of their attempts."""
        return [(e.index, e.attempt) for e in self.events if isinstance(e, Started)]


class Starts:
    """A tool that ends at once, and tells when it started.

    Attributes:
        at_s: Seconds from its making to each start.
        who: Caller and position of each call.
    """

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._since_ns = clock.now_ns()
        self.at_s: list[float] = []
        self.who: list[tuple[str, int]] = []

    async def __call__(self, call: Call) -> str:
        """Runs a call."""
        self.at_s.append((self._clock.now_ns() - self._since_ns) / SECOND_NS)
        self.who.append((call.options.caller, call.index))
        return "done"


class Script:
    """A tool whose attempts end as they are told, in the order in which they start.

    An attempt ends with its outcome, or with a text; None stands for one that hangs. Attempts
    beyond the script end well. What an attempt was given it changes.

    Attributes:
        attempts: Number of each attempt.
        at_s: Seconds from the script's making to the start of each attempt.
        given: What each attempt was given.
        stubborn: Whether attempts that hang outlive their cancellation, until `release`.
    """

    def __init__(self, clock: FakeClock, *ends: Outcome | str | None) -> None:
        self._clock = clock
        self._since_ns = clock.now_ns()
        self._ends: Sequence[Outcome | str | None] = ends
        self._released = asyncio.Event()
        self.attempts: list[int] = []
        self.at_s: list[float] = []
        self.given: list[dict[str, Any]] = []
        self.stubborn = False

    def release(self) -> None:
        """Lets attempts end that hang; they return a text."""
        self._released.set()

    async def __call__(self, call: Call) -> Outcome | str:
        """Runs an attempt."""
        number = len(self.attempts)
        self.attempts.append(call.attempt)
        self.at_s.append((self._clock.now_ns() - self._since_ns) / SECOND_NS)
        self.given.append(copy.deepcopy(call.arguments))
        _spoil(call.arguments)
        end = self._ends[number] if number < len(self._ends) else "done"
        if end is None:
            return await self._hang()
        return Success(end) if isinstance(end, str) else end

    async def _hang(self) -> str:
        while not self._released.is_set():
            try:
                await self._released.wait()
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise
        return "late"


class Stage:
    """A tool whose calls, known by their ids, end when the test says so.

    Attributes:
        started: Ids of the calls that were started, in order.
        running: Ids of the calls that run now.
        stubborn: Whether calls outlive their cancellation, until their end.
    """

    def __init__(self, *, stubborn: bool = False) -> None:
        self.started: list[str] = []
        self.running: list[str] = []
        self.stubborn = stubborn
        self._ends: dict[str, asyncio.Future[Outcome | str]] = {}

    async def end(self, *ids: str, outcome: Outcome | str = "done") -> None:
        """Ends one attempt of each call, also before it starts, and lets the loop settle."""
        for call_id in ids:
            self._end_of(call_id).set_result(outcome)
        await settle()

    def _end_of(self, call_id: str) -> asyncio.Future[Outcome | str]:
        return self._ends.setdefault(call_id, asyncio.get_running_loop().create_future())

    async def __call__(self, call: Call) -> Outcome | str:
        """Runs a call."""
        call_id = call.request.id
        end = self._end_of(call_id)
        self.started.append(call_id)
        self.running.append(call_id)
        try:
            while not end.done():
                try:
                    await asyncio.shield(end)
                except asyncio.CancelledError:
                    if not self.stubborn:
                        raise
            del self._ends[call_id]
            return end.result()
        finally:
            self.running.remove(call_id)


def _spoil(value: Any) -> None:
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _spoil(item)
    if isinstance(value, dict):
        value["spoiled"] = True
    else:
        value.append("spoiled")
