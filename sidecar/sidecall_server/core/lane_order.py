"""Which calls of a batch come after which because they share a lane.

Within a lane the emitted order holds, as far as references and other lanes allow: an edge
that would close a cycle is left out, so that lanes and references together cannot
deadlock. A call whose key waits for a result counts as equal to every key of its template.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sidecall_server.core.cycles import Edges


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
    """Finds the predecessors of calls that are added in emitted order."""

    def __init__(self, count: int, edges: Edges) -> None:
        """Takes the number of calls, and what they depend on; without cycles."""
        self._epochs: dict[str, list[_Epoch]] = {}
        # References that point backward close no cycle with edges that do so too.
        forward = any(target > index for index, targets in edges.items() for target in targets)
        self._graph = _Graph(count, edges) if forward else None

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
            for predecessor in after:
                self._graph.link(index, predecessor)
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
        if self._graph is None:
            return len(chain)
        return bisect_left(chain, True, key=lambda member: self._waits_for(member, index))

    def _waits_for(self, call: int, other: int) -> bool:
        return self._graph is not None and self._graph.waits_for(call, other)


class _Graph:
    """Who waits for whom, with an order that is kept topological as edges are added.

    After Pearce and Kelly, "A dynamic topological sort algorithm for directed acyclic
    graphs" (2006): only calls between the two ends of a new edge are looked at.
    """

    def __init__(self, count: int, edges: Edges) -> None:
        self._targets: list[list[int]] = [list(edges.get(index, ())) for index in range(count)]
        self._sources: list[list[int]] = [[] for _ in range(count)]
        for index, targets in enumerate(self._targets):
            for target in targets:
                self._sources[target].append(index)
        self._rank = [0] * count
        for rank, index in enumerate(self._sorted()):
            self._rank[index] = rank

    def _sorted(self) -> Iterable[int]:
        """The calls in emitted order, each after what it waits for."""
        done: dict[int, None] = {}
        for root in range(len(self._targets)):
            path = [] if root in done else [(root, iter(self._targets[root]))]
            while path:
                index, targets = path[-1]
                following = next((t for t in targets if t not in done), None)
                if following is None:
                    done[index] = None
                    path.pop()
                else:
                    path.append((following, iter(self._targets[following])))
        return done

    def waits_for(self, call: int, other: int) -> bool:
        """Whether a call waits for another one, directly or not."""
        rank = self._rank
        if rank[call] <= rank[other]:
            return call == other
        return other in self._reached(call, self._targets, rank[other], rank[call])

    def link(self, index: int, target: int) -> None:
        """Has a call wait for another one that does not wait for it."""
        rank = self._rank
        low, high = rank[index], rank[target]
        if low < high:
            behind = sorted(self._reached(target, self._targets, low, high), key=rank.__getitem__)
            ahead = sorted(self._reached(index, self._sources, low, high), key=rank.__getitem__)
            moved = [*behind, *ahead]
            for place, call in zip(sorted(rank[c] for c in moved), moved, strict=True):
                rank[call] = place
        self._targets[index].append(target)
        self._sources[target].append(index)

    def _reached(self, start: int, step: list[list[int]], low: int, high: int) -> set[int]:
        """What is reached from a call without leaving a range of ranks."""
        rank = self._rank
        seen, todo = {start}, [start]
        while todo:
            for neighbour in step[todo.pop()]:
                if neighbour not in seen and low <= rank[neighbour] <= high:
                    seen.add(neighbour)
                    todo.append(neighbour)
        return seen
