"""What a batch has to do for many calls at once: in order, and in slices."""

from collections import deque
from collections.abc import Iterator

from sidecall_server.engine.slices import Slices


class Chores:
    """Takes the steps of one chore after the other; a step may bring further chores.

    What the slice has no time for goes on in the next iteration of the event loop. So
    whoever brings a chore must see to it that nothing happens in between that must not.
    """

    __slots__ = ("_chores", "_slices", "_under_way")

    def __init__(self, slices: Slices) -> None:
        self._slices = slices
        self._chores: deque[Iterator[None]] = deque()
        self._under_way = False

    def do(self, chore: Iterator[None]) -> None:
        """Takes the steps of a chore, after those of the ones before."""
        self._chores.append(chore)
        if not self._under_way:
            self._under_way = True
            self._slices.spread(self._steps())

    def finish(self) -> None:
        """Takes all steps that are left, now."""
        while self._chores:
            self._step()

    def _steps(self) -> Iterator[None]:
        try:
            while self._chores:
                if self._step():
                    yield
        finally:
            self._under_way = False

    def _step(self) -> bool:
        """Takes a step; returns whether there was one left."""
        for _ in self._chores[0]:
            return True
        self._chores.popleft()
        return False
