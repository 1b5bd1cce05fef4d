"""Circuit breakers: a tool that fails for everybody is left alone for a while."""

import enum
import math
from collections import deque
from dataclasses import dataclass

from sidecall_server.core.outcome import Code, ExecutionState, Failure, Outcome, Reason, Success
from sidecall_server.core.tool import Breaker

_BUCKETS = 10
_PROBE_RETRY_S = 1.0

_TOOL_FAULTS = frozenset({Reason.TOOL_TIMEOUT, Reason.TOOL_CRASHED, Reason.TOOL_UNAVAILABLE})
_CALLER_FAULTS = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.FAILED_PRECONDITION,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.UNAUTHENTICATED,
    }
)
"""A tool that answers with one of these works."""


class BreakerState(enum.Enum):
    """Whether a tool is called."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerStatistics:
    """What a breaker has seen and done.

    Attributes:
        state: Whether the tool is called.
        attempts: Attempts within the window that had a verdict.
        failures: Those of them that failed.
        opened: Times that it opened.
        refused: Calls that it refused.
    """

    state: BreakerState
    attempts: int
    failures: int
    opened: int
    refused: int


def verdict(outcome: Outcome | None) -> bool | None:
    """Whether an attempt shows that its tool works; None where it shows nothing.

    A tool that refuses what it was asked for works. What callers cause shows nothing:
    invalid arguments, cancellation, the deadlines of calls and batches, drain.
    """
    if outcome is None:
        return None
    if isinstance(outcome, Success) or outcome.reason is Reason.RESULT_TOO_LARGE:
        return True
    if outcome.reason is Reason.TOOL_FAILED:
        code = outcome.status_code
        return None if code is Code.CANCELLED else code in _CALLER_FAULTS
    if outcome.reason is Reason.HOST_DETACHED:
        # Where none is attached the tool is known to be away, and is back when one is.
        return None if outcome.state is ExecutionState.NOT_STARTED else False
    return False if outcome.reason in _TOOL_FAULTS else None


class CircuitBreaker:
    """The breaker of one tool. Belongs to the tool's name.

    Closed, it opens with the failure that brings the attempts of the window to
    `min_attempts` or more and the share of failed ones to `failure_ratio` or more. After
    `open_s` it is half-open: one call at a time is a probe. So many good probes in a row
    as `probes` says close it, a bad one opens it again. A call that was admitted before
    the last change of state, or as an earlier probe, counts for nothing.

    Points in time are nanoseconds on a monotonic clock.

    Attributes:
        spec: The rules in force; a reload may replace them, the state stays.
        state: Whether the tool is called. An open breaker becomes half-open with the
            first call that it admits.
    """

    __slots__ = (
        "_good_probes",
        "_name",
        "_opened",
        "_opened_ns",
        "_probing",
        "_refused",
        "_ticket",
        "_window",
        "spec",
        "state",
    )

    def __init__(self, spec: Breaker, name: str) -> None:
        """Takes the rules, and the tool's name for messages."""
        self.spec = spec
        self.state = BreakerState.CLOSED
        self._name = name
        self._window = _Window()
        self._ticket = 0
        self._probing = False
        self._good_probes = 0
        self._opened_ns = 0
        self._opened = 0
        self._refused = 0

    def admit(self, now_ns: int) -> Failure | int:
        """Lets a call start: a ticket, for which `ended` must follow, or why not."""
        if self.state is BreakerState.CLOSED:
            return self._ticket
        failure = self.refusal(now_ns)
        if failure is not None:
            self._refused += 1
            return failure
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN
            self._good_probes = 0
        self._probing = True
        self._ticket += 1
        return self._ticket

    def refusal(self, now_ns: int) -> Failure | None:
        """Why a call must not start now; None where it may, as a probe perhaps."""
        if self.state is BreakerState.CLOSED:
            return None
        if self.state is BreakerState.OPEN:
            remaining_s = self.spec.open_s - (now_ns - self._opened_ns) / 1e9
            return self._refuse(remaining_s) if remaining_s > 0 else None
        return self._refuse(min(_PROBE_RETRY_S, self.spec.open_s)) if self._probing else None

    def ended(self, ticket: int, outcome: Outcome | None, now_ns: int) -> bool:
        """Takes note of the end of an admitted attempt.

        Args:
            ticket: What `admit` gave for it.
            outcome: What became of it; None where it shows nothing: it never started, or
                was cancelled.
            now_ns: When.

        Returns:
            Whether it has just opened: calls that wait must not start either.
        """
        if ticket != self._ticket or self.state is BreakerState.OPEN:
            return False
        works = verdict(outcome)
        if self.state is BreakerState.HALF_OPEN:
            return self._probe_ended(works, now_ns)
        if works is None:
            return False
        self._window.add(works, now_ns, round(self.spec.window_s * 1e9))
        if works or not self._has_failed_enough():
            return False
        self._open(now_ns)
        return True

    def statistics(self) -> BreakerStatistics:
        """Its state now; the window is as of the last attempt."""
        window = self._window
        return BreakerStatistics(
            self.state, window.attempts, window.failures, self._opened, self._refused
        )

    def _probe_ended(self, works: bool | None, now_ns: int) -> bool:
        self._probing = False
        self._ticket += 1  # a ticket counts once
        if works is None:
            return False
        if not works:
            self._open(now_ns)
            return True
        self._good_probes += 1
        if self._good_probes >= self.spec.probes:
            self.state = BreakerState.CLOSED
        return False

    def _has_failed_enough(self) -> bool:
        attempts, failures = self._window.attempts, self._window.failures
        spec = self.spec
        return attempts >= spec.min_attempts and failures / attempts >= spec.failure_ratio

    def _open(self, now_ns: int) -> None:
        self.state = BreakerState.OPEN
        self._ticket += 1
        self._opened_ns = now_ns
        self._opened += 1
        self._window = _Window()

    def _refuse(self, retry_after_s: float) -> Failure:
        return Failure(
            Reason.CIRCUIT_OPEN,
            f"Not run: the tool {self._name!r} fails at present and is left alone. Try again in "
            f"{math.ceil(retry_after_s)} s, or do without it.",
            ExecutionState.NOT_STARTED,
            retry_after_s=retry_after_s,
        )


class _Bucket:
    __slots__ = ("attempts", "begin_ns", "failures")

    def __init__(self, begin_ns: int) -> None:
        self.begin_ns = begin_ns
        self.attempts = 0
        self.failures = 0


class _Window:
    """Counts of the last attempts.

    What is as old as the window is gone, what is younger than nine tenths of it is there.

    Attributes:
        attempts: Attempts that are counted.
        failures: Those of them that failed.
    """

    __slots__ = ("_buckets", "attempts", "failures")

    def __init__(self) -> None:
        self._buckets: deque[_Bucket] = deque()
        self.attempts = 0
        self.failures = 0

    def add(self, works: bool, now_ns: int, window_ns: int) -> None:
        """Counts one attempt and forgets the old ones."""
        buckets = self._buckets
        while buckets and now_ns >= buckets[0].begin_ns + window_ns:
            old = buckets.popleft()
            self.attempts -= old.attempts
            self.failures -= old.failures
        if not buckets or now_ns >= buckets[-1].begin_ns + window_ns // _BUCKETS:
            buckets.append(_Bucket(now_ns))
        buckets[-1].attempts += 1
        self.attempts += 1
        if not works:
            buckets[-1].failures += 1
            self.failures += 1
