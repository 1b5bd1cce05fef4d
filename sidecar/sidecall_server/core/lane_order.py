"""Which calls of a batch come after which because they share a lane.

Within a lane the emitted order holds, as far as references and other lanes allow: an edge
that would close a cycle is left out, so that lanes and references together cannot
deadlock. A call whose key waits for a result counts as equal to every key of its template.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sidecall_server.core.cycles import Edges

MAX_WORK = 20_000_000
"""Sets of calls that may be looked at to order one batch; some seconds, and only where
references point forward."""

_WORD_CALLS = 4096
"""Calls for which one more set costs about as much again as looking at it at all."""


@dataclass(slots=True)
class _Epoch:
    """The calls of a template between two whose keys are not known.

    Attributes:
        base: The call without a known key that comes before them; None for the first.
        chains: Calls by key, each of which comes after the one before it.
    """

    base: int | None
    chains: dict[str, list[int]] = field(default_factory=dict)


class LaneOrder:
    """Finds the predecessors of calls that are added in emitted order.

    Where no reference points forward a call costs a constant amount of work. Otherwise the
    work is bounded for the whole batch: a batch that needs more can be ordered only up to
    some call, and `is_exhausted` says so. What was found until then holds.
    """

    def __init__(self, count: int, edges: Edges, max_work: int | None = None) -> None:
        """Takes the number of calls, and what they depend on; without cycles."""
        self._epochs: dict[str, list[_Epoch]] = {}
        # References that point backward close no cycle with edges that do so too.
        forward = any(target > index for index, targets in edges.items() for target in targets)
        self._graph = _Graph(count, edges, max_work or MAX_WORK) if forward else None

    @property
    def is_exhausted(self) -> bool:
        """Whether the work is used up: no call may be added any more."""
        return self._graph is not None and self._graph.work > self._graph.max_work

    def prepare(self) -> Iterator[None]:
        """Looks at the references, in short steps; before the first call is added."""
        return iter(()) if self._graph is None else self._graph.close()

    def add(self, index: int, template: str, key: str | None) -> list[int]:
        """Adds the next call.

        Args:
            index: Its position.
            template: What its key is made from.
            key: Its key; None where that is not known yet.

        Returns:
            The calls that must be final before it, earlier ones that these wait for left out.
        """
        epochs = self._epochs.setdefault(template, [_Epoch(None)])
        number = len(epochs) - 1
        while True:
            epoch = epochs[number]
            after = self._last_before(epoch.chains, index, key)
            if not after and epoch.base is not None:
                if self._waits_for(epoch.base, index):
                    number -= 1
                    continue
                after = [epoch.base]
            break
        self._enter(epochs, number, index, key)
        if self._graph is not None:
            self._graph.link(index, after)
        return after

    def _last_before(self, chains: dict[str, list[int]], index: int, key: str | None) -> list[int]:
        """The last call of each chain that does not wait for the new one."""
        chosen = chains.values() if key is None else [chains.get(key, [])]
        places = ((chain, self._place(chain, index)) for chain in chosen)
        return [chain[place - 1] for chain, place in places if place]

    def _enter(self, epochs: list[_Epoch], number: int, index: int, key: str | None) -> None:
        epoch = epochs[number]
        if key is not None:
            chain = epoch.chains.setdefault(key, [])
            chain.insert(self._place(chain, index), index)
            return
        later = {k: chain[self._place(chain, index) :] for k, chain in epoch.chains.items()}
        epochs.insert(number + 1, _Epoch(index, {k: chain for k, chain in later.items() if chain}))

    def _place(self, chain: Sequence[int], index: int) -> int:
        """How many calls of a chain do not wait for a call: all before the first that does."""
        if self._graph is None or not chain or not self._waits_for(chain[-1], index):
            return len(chain)
        return bisect_left(chain, True, key=lambda member: self._waits_for(member, index))

    def _waits_for(self, call: int, other: int) -> bool:
        return self._graph is not None and self._graph.waits_for(call, other)


class _Graph:
    """Which calls wait for calls that are still to be added.

    Only these can have an edge to the next call close a cycle, and all of them wait through
    a reference that points forward. So each call has the set of those that it waits for,
    as the bits of a number, and a new edge is of concern only where it adds to such a set:
    then to those of all calls that wait for the one with the edge.

    Attributes:
        work: Sets that were looked at.
        max_work: How many may be.
    """

    def __init__(self, count: int, edges: Edges, max_work: int) -> None:
        self.work = 0
        self.max_work = max_work
        self._cost = 1 + count // _WORD_CALLS
        self._edges = edges
        self._ahead = [0] * count
        self._waiting: list[int] = []  # calls that wait for any
        self._awaited = 0  # calls that any wait for

    def close(self) -> Iterator[None]:
        """Finds what calls wait for through references; call by call, unless that is too much."""
        ahead = self._ahead
        for index in self._sorted():
            found = 0
            for target in self._edges.get(index, ()):
                found |= ahead[target] | 1 << target
                self.work += self._cost
            if found:
                ahead[index] = found
                self._waiting.append(index)
                self._awaited |= found
            if self.work > self.max_work:
                return
            yield

    def _sorted(self) -> Iterator[int]:
        """The calls, each after what it waits for."""
        done = bytearray(len(self._ahead))
        for root in range(len(self._ahead)):
            path = [] if done[root] else [(root, iter(self._edges.get(root, ())))]
            while path:
                index, targets = path[-1]
                following = next((t for t in targets if not done[t]), None)
                if following is None:
                    done[index] = True
                    path.pop()
                    yield index
                else:
                    path.append((following, iter(self._edges.get(following, ()))))

    def waits_for(self, call: int, other: int) -> bool:
        """Whether a call waits for one that is being added, directly or not."""
        self.work += self._cost
        return bool(self._ahead[call] >> other & 1)

    def link(self, index: int, predecessors: Sequence[int]) -> None:
        """Has the call that is being added wait for others that were added before."""
        ahead = self._ahead
        gained = 0
        for predecessor in predecessors:
            gained |= ahead[predecessor]
        self.work += len(predecessors) * self._cost
        # What was added before is asked for no more.
        gained = (gained & ~ahead[index]) >> index << index
        if not gained:
            return
        if not ahead[index]:
            self._waiting.append(index)
        ahead[index] |= gained
        self._awaited |= gained
        if self._awaited >> index & 1:
            self.work += len(self._waiting) * self._cost
            for call in self._waiting:
                if ahead[call] >> index & 1:
                    ahead[call] |= gained
