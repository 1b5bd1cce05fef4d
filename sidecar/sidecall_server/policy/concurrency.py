"""How many at a time: permits, and whose turn it is to get one."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sidecall_server.core.call import BlockCause


class Party(Protocol):
    """Something that takes turns."""

    @property
    def turn_key(self) -> tuple[Hashable, Hashable]:
        """Its caller, and its batch."""


P = TypeVar("P", bound=Party)


class Rotation(Generic[P]):
    """Takes turns: round the callers, then round each caller's batches.

    Whoever has a turn goes to the end; a caller with many batches, or a batch with many
    tools, gets no more turns than one with few.

    Attributes:
        count: Parties that wait.
    """

    __slots__ = ("_callers", "count")

    def __init__(self) -> None:
        self._callers: OrderedDict[Hashable, OrderedDict[Hashable, deque[P]]] = OrderedDict()
        self.count = 0

    def push(self, party: P) -> None:
        """Adds a party behind all others of its batch."""
        caller, batch = party.turn_key
        self._callers.setdefault(caller, OrderedDict()).setdefault(batch, deque()).append(party)
        self.count += 1

    def push_front(self, party: P) -> None:
        """Adds a party that keeps the turn it had."""
        caller, batch = party.turn_key
        batches = self._callers.setdefault(caller, OrderedDict())
        batches.setdefault(batch, deque()).appendleft(party)
        batches.move_to_end(batch, last=False)
        self._callers.move_to_end(caller, last=False)
        self.count += 1

    def pop(self) -> P:
        """Removes and returns the party whose turn it is; raises KeyError when empty."""
        caller, batches = self._callers.popitem(last=False)
        batch, parties = batches.popitem(last=False)
        party = parties.popleft()
        if parties:
            batches[batch] = parties
        if batches:
            self._callers[caller] = batches
        self.count -= 1
        return party

    def turns_until(self, party: P, turns: int, wanted: Callable[[P], int]) -> int:
        """Turns of all, its own included, until a party has had some.

        Args:
            party: One that waits, or would be pushed.
            turns: Turns of its own, 1 or more.
            wanted: Gives the turns that another party takes before it leaves.
        """
        caller, batch = party.turn_key
        batches = self._callers.get(caller) or OrderedDict()
        own = ((other is party, wanted(other)) for other in batches.get(batch, ()))
        others = ((key == batch, sum(map(wanted, line))) for key, line in batches.items())
        callers = (
            (key == caller, sum(wanted(other) for line in lines.values() for other in line))
            for key, lines in self._callers.items()
        )
        for members in (own, others, callers):
            turns = _round(turns, members)
        return turns

    def remove(self, party: P) -> None:
        """Removes a party wherever it is; raises KeyError or ValueError when it is not here."""
        caller, batch = party.turn_key
        batches = self._callers[caller]
        parties = batches[batch]
        parties.remove(party)
        if not parties:
            del batches[batch]
        if not batches:
            del self._callers[caller]
        self.count -= 1


def _round(turns: int, members: Iterable[tuple[bool, int]]) -> int:
    """Turns of all members until one has had some; each is that one, or wants so many."""
    total, before = turns, True
    for is_it, wanted in members:
        if is_it:
            before = False
        else:
            total += min(wanted, turns if before else turns - 1)
    return total


@dataclass(frozen=True, slots=True)
class LimiterStatistics:
    """State of a limiter.

    Attributes:
        limit: Most permits that may be held.
        active: Permits that are held.
        peak: Most permits that were ever held at a time.
        waiting: Parties that wait for one.
    """

    limit: int
    active: int
    peak: int
    waiting: int


class Limiter(Generic[P]):
    """Permits of one kind, and the parties that wait for one.

    A count, not a semaphore: admission takes the permits of all limiters at once or none.

    Attributes:
        name: For people.
        cause: What a call that waits here is blocked on.
        limit: Most permits that may be held.
        active: Permits that are held.
        ring: Parties that wait.
        represented: Whether one party waits at a wider limiter for all that wait here.
    """

    __slots__ = ("__weakref__", "active", "cause", "limit", "name", "peak", "represented", "ring")

    def __init__(self, name: str, cause: BlockCause, limit: int) -> None:
        self.name = name
        self.cause = cause
        self.limit = limit
        self.active = 0
        self.peak = 0
        self.represented = False
        self.ring: Rotation[P] = Rotation()

    def refill(self, now_ns: int) -> bool:
        """Whether permits have come back by themselves, as those of rates do."""
        del now_ns
        return False

    def __repr__(self) -> str:
        kind, waiting = type(self).__name__, self.ring.count
        return f"{kind}({self.name!r}, {self.active}/{self.limit}, waiting={waiting})"

    def statistics(self) -> LimiterStatistics:
        """Its state now."""
        return LimiterStatistics(self.limit, self.active, self.peak, self.ring.count)
