"""Why a batch took as long as it did.

The critical path is found backward from the call that finished last: each step asks which
call had to end before this one could start. Nothing is recorded for it while calls run,
and only the calls on the path are looked at closely.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from sidecall_server.core.call import BlockCause, Call, Mode
from sidecall_server.core.outcome import Failure, Reason

MAX_STEPS = 256
"""Steps that a path has at most: those that decided last."""

_SAME_TOOL = {BlockCause.TOOL_LIMIT, BlockCause.RATE, BlockCause.LANE, BlockCause.SAME_CALL}
"""Causes that go by when another call of the tool ends."""

_ANY_TOOL = {BlockCause.GROUP_LIMIT, BlockCause.BATCH_LIMIT, BlockCause.GLOBAL_LIMIT}
"""Causes that go by when any call ends, or one of a tool that shares the limit."""

_CONSEQUENCES = {Reason.DEPENDENCY_FAILED, Reason.STOPPED}
"""Why calls end at once when another one fails: they did not keep the batch waiting."""

Edges = Mapping[int, Sequence[int]]
_NO_EDGES: Edges = MappingProxyType({})


@dataclass(slots=True)
class CriticalStep:
    """One call of a critical path.

    Attributes:
        index: Position of the call in its batch.
        cause: Why it could not start before the call before it had ended; NONE in the
            first step.
        waiting_ns: From the end of the step before it, or the receipt, to its start.
        running_ns: From its start to its result; 0 where it was not started.
    """

    index: int
    cause: BlockCause
    waiting_ns: int
    running_ns: int


class Schedule(NamedTuple):
    """How long a batch took, and why.

    Attributes:
        duration_ns: From receipt to the last result.
        sequential_ns: What the calls would have taken one after the other: the sum of the
            times from the start of each last attempt to its end.
        critical_path: The calls that decided when the batch ended, in order.
    """

    duration_ns: int = 0
    sequential_ns: int = 0
    critical_path: tuple[CriticalStep, ...] = ()

    @property
    def speed_up(self) -> float:
        """How many times as fast as one after the other; 0 where nothing ran."""
        return self.sequential_ns / self.duration_ns if self.duration_ns else 0.0


class Happened(NamedTuple):
    """What is known of a batch whose calls are all final.

    Attributes:
        calls: Its calls by position.
        received_ns: When it was received.
        mode: How its calls were ordered.
        depends_on: The calls that each call depended on, for those that did.
        after: The calls of its lanes that each call came after, for those that did.
    """

    calls: Mapping[int, Call]
    received_ns: int
    mode: Mode = Mode.PARALLEL
    depends_on: Edges = _NO_EDGES
    after: Edges = _NO_EDGES

    @property
    def is_free(self) -> bool:
        """Whether no call had to come after another one."""
        return self.mode is Mode.PARALLEL and not self.depends_on and not self.after


def explain(happened: Happened) -> Schedule:
    """The schedule of a batch."""
    last: Call | None = None
    end_ns = happened.received_ns
    sequential_ns = 0
    # Every call of every batch passes here.
    for call in happened.calls.values():
        finished_ns, started_ns = call.finished_ns, call.started_ns
        if started_ns:
            sequential_ns += finished_ns - started_ns
        if finished_ns > end_ns:
            end_ns, last = finished_ns, call
    if last is None:
        return Schedule()
    if _is_consequence(last):
        last = max(happened.calls.values(), key=_decided_ns)
    if last.blocked_ns is None and happened.is_free:
        start_ns = _start_ns(last)
        waiting_ns, running_ns = start_ns - happened.received_ns, last.finished_ns - start_ns
        path: Iterable[CriticalStep] = (
            CriticalStep(last.index, BlockCause.NONE, waiting_ns, running_ns),
        )
    else:
        path = _Path(happened).back_from(last)
    return Schedule(end_ns - happened.received_ns, sequential_ns, tuple(path))


def _is_consequence(call: Call) -> bool:
    return isinstance(call.outcome, Failure) and call.outcome.reason in _CONSEQUENCES


def _decided_ns(call: Call) -> int:
    return 0 if _is_consequence(call) else call.finished_ns


def _start_ns(call: Call) -> int:
    """When a call started to run for the last time; its end where it never did."""
    return call.started_ns or call.finished_ns


def _first_start_ns(call: Call) -> int:
    """When a call started to run for the first time; its end where it never did."""
    for attempt in call.failed_attempts:
        if attempt.started_ns:
            return attempt.started_ns
    return _start_ns(call)


class _Path:
    """Walks back through a batch."""

    def __init__(self, happened: Happened) -> None:
        self._happened = happened
        self._calls = happened.calls
        self._seen: set[int] = set()
        self._ends: dict[str | None, _Ends] = {}

    def back_from(self, last: Call) -> Iterable[CriticalStep]:
        """The path that ends with a call, in order."""
        steps: list[CriticalStep] = []
        call: Call | None = last
        while call is not None:
            self._seen.add(call.index)
            is_first = len(steps) + 1 == MAX_STEPS
            before, cause = (None, BlockCause.NONE) if is_first else self._before(call)
            since_ns = self._happened.received_ns if before is None else before.finished_ns
            start_ns = _start_ns(call)
            running_ns = call.finished_ns - start_ns
            steps.append(CriticalStep(call.index, cause, start_ns - since_ns, running_ns))
            call = before
        return reversed(steps)

    def _before(self, call: Call) -> tuple[Call | None, BlockCause]:
        """The call that had to end before this one could start, and why."""
        start_ns = _first_start_ns(call)
        blocked = call.blocked_ns or {}
        for cause in sorted(blocked, key=lambda cause: -blocked[cause]):
            if cause in _SAME_TOOL or cause in _ANY_TOOL:
                tool = call.request.name if cause in _SAME_TOOL else None
                released = self._latest(tool, start_ns)
                if released is not None and released.finished_ns > call.ready_ns:
                    return released, cause
        return self._before_ready(call, call.ready_ns or start_ns)

    def _before_ready(self, call: Call, ready_ns: int) -> tuple[Call | None, BlockCause]:
        """The call that made this one ready, and why."""
        happened = self._happened
        found: tuple[Call | None, BlockCause] = (None, BlockCause.NONE)
        # Nothing that ended before the model had made the call, or its turn was sealed,
        # kept it waiting.
        found_ns = call.received_ns + (call.blocked_ns or {}).get(BlockCause.SEAL, 0)
        for index, cause in self._edges(call.index):
            before = self._calls.get(index)
            if before is None or index in self._seen:
                continue
            if found_ns < before.finished_ns <= ready_ns:
                found, found_ns = (before, cause), before.finished_ns
        if happened.mode is Mode.SEQUENTIAL:
            turn = self._latest(None, ready_ns)
            if turn is not None and turn.finished_ns > found_ns:
                found = turn, BlockCause.ORDER
        return found

    def _edges(self, index: int) -> Iterator[tuple[int, BlockCause]]:
        for before in self._happened.depends_on.get(index, ()):
            yield before, BlockCause.REFERENCE
        for before in self._happened.after.get(index, ()):
            yield before, BlockCause.LANE

    def _latest(self, tool: str | None, until_ns: int) -> Call | None:
        """The call of a tool, or of any, that ended last until then."""
        if tool not in self._ends:
            self._ends[tool] = _Ends(
                call for call in self._calls.values() if tool is None or call.request.name == tool
            )
        return self._ends[tool].latest(until_ns, self._seen)


class _Ends:
    """Calls that others may have waited for, by when they ended."""

    def __init__(self, calls: Iterable[Call]) -> None:
        # One that was refused when its turn came took none.
        self._calls = [
            call for call in calls if call.started_ns or 0 < call.ready_ns < call.finished_ns
        ]
        self._calls.sort(key=lambda call: call.finished_ns)
        self._ends_ns = [call.finished_ns for call in self._calls]

    def latest(self, until_ns: int, besides: set[int]) -> Call | None:
        position = bisect_right(self._ends_ns, until_ns) - 1
        while position >= 0 and self._calls[position].index in besides:
            position -= 1
        return self._calls[position] if position >= 0 else None
