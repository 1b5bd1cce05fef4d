"""Flights: one run that answers several calls.

The first call leads; others that ask for the same follow it and get its outcome. A leader
that ends without one of its own (it was cancelled, or found no place) hands over to the
next follower. One that is given up while its attempt runs leaves the attempt to its
followers.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import ExecutionState, Outcome, Reason, Success

_CIRCUMSTANCES = frozenset(
    {
        Reason.CANCELLED,
        Reason.STOPPED,
        Reason.DRAINING,
        Reason.CALL_DEADLINE,
        Reason.BATCH_DEADLINE,
        Reason.QUEUE_TIMEOUT,
        Reason.QUEUE_FULL,
        Reason.RATE_LIMITED,
        Reason.CIRCUIT_OPEN,
    }
)


class Follower(Protocol):
    """A call that waits for the outcome of another one."""

    def arrive(self, leader: Call, outcome: Outcome) -> None:
        """Takes the outcome."""

    def take_over(self, before: Call) -> None:
        """Leads from now on, after another call that did."""


def is_own(outcome: Outcome) -> bool:
    """Whether an outcome is that of an attempt, and not of its call's circumstances."""
    if isinstance(outcome, Success):
        return True
    if outcome.state is ExecutionState.NOT_STARTED:
        return False
    return outcome.reason not in _CIRCUMSTANCES


class Flight:
    """One run and whoever waits for it.

    Attributes:
        leader: The call that runs.
        lives_on: Whether a started attempt goes on when nobody waits for it any more.
        repeatable: Whether another attempt does no harm after one that may have had effects.
    """

    __slots__ = (
        "_close",
        "_followers",
        "_handing_over",
        "_keep",
        "_spread",
        "leader",
        "lives_on",
        "repeatable",
    )

    def __init__(
        self,
        leader: Call,
        keep: Callable[[Call, Outcome], None],
        close: Callable[[], None],
        spread: Callable[[Iterator[None]], None],
        *,
        repeatable: bool,
        lives_on: bool = False,
    ) -> None:
        """Starts a flight.

        Args:
            leader: The call that runs.
            keep: Takes the outcome of each call that has led.
            close: Called once when nobody can join any more.
            spread: Takes many steps, some of them later.
            repeatable: See the class.
            lives_on: See the class.
        """
        self.leader = leader
        self.repeatable = repeatable
        self.lives_on = lives_on
        self._keep = keep
        self._close = close
        self._spread = spread
        self._followers: OrderedDict[Call, Follower] = OrderedDict()
        self._handing_over = False

    @property
    def is_followed(self) -> bool:
        """Whether a call waits for the outcome."""
        return bool(self._followers)

    @property
    def has_started(self) -> bool:
        """Whether an attempt was started that may take effect, or has."""
        leader = self.leader
        if leader.started_ns and not leader.preparing:
            return True
        states = (attempt.failure.state for attempt in leader.failed_attempts)
        return any(state is not ExecutionState.NOT_STARTED for state in states)

    @property
    def has_ended(self) -> bool:
        """Whether the outcome of the run is known, although not all have it yet."""
        leader = self.leader
        if leader.outcome is None or leader.detached:
            return False
        return self._is_shared(leader.outcome)

    def follow(self, call: Call, follower: Follower) -> None:
        """Has a call wait for the outcome."""
        self._followers[call] = follower

    def leave(self, call: Call) -> None:
        """Forgets a call that waits."""
        self._followers.pop(call, None)

    def end(self, call: Call, outcome: Outcome, *, hands_over: bool = False) -> None:
        """Takes the outcome of its leader.

        Args:
            call: The leader.
            outcome: Its outcome.
            hands_over: Whether a follower tries again instead of sharing the outcome.
        """
        self._keep(call, outcome)
        if self._handing_over:
            return
        if not self._followers or (self._is_shared(outcome) and not hands_over):
            self._land(outcome)
            return
        # Whoever takes over may end at once as well: thousands of times in a row.
        self._handing_over = True
        try:
            final: Outcome | None = outcome
            while (
                final is not None and self._followers and (hands_over or not self._is_shared(final))
            ):
                hands_over, before = False, self.leader
                self.leader, follower = self._followers.popitem(last=False)
                follower.take_over(before)
                final = self.leader.outcome
        finally:
            self._handing_over = False
        if final is not None:
            self._land(final)

    def _is_shared(self, outcome: Outcome) -> bool:
        """Whether an outcome is that of the run, and not of its leader's circumstances."""
        if is_own(outcome) or isinstance(outcome, Success):
            return True
        return not self.repeatable and outcome.state is not ExecutionState.NOT_STARTED

    def _land(self, outcome: Outcome) -> None:
        self._close()
        followers, self._followers = self._followers, OrderedDict()
        self._spread(_arrive(followers, self.leader, outcome))


def _arrive(followers: Mapping[Call, Follower], leader: Call, outcome: Outcome) -> Iterator[None]:
    for follower in followers.values():
        follower.arrive(leader, outcome)
        yield
