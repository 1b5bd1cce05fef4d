"""Lanes: calls with one key run one at a time, in the order in which they became ready.

Whoever holds a lane may wait for permits, but whoever holds permits waits for nobody: a
lane is entered before permits are taken, so the two cannot deadlock.
"""

from collections import deque
from collections.abc import Callable

from sidecall_server.core.call import Call

_Turn = tuple[Call, Callable[[], None]]


class Lanes:
    """The lanes of one sidecar, by key. One that nobody is in does not exist."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[_Turn]] = {}
        self._freed: deque[str] = deque()
        self._passing_on = False

    @property
    def count(self) -> int:
        """Lanes that somebody is in."""
        return len(self._lines)

    def enter(self, key: str, call: Call, go: Callable[[], None]) -> bool:
        """Lines a call up.

        Args:
            key: The lane.
            call: The call; `leave` must follow.
            go: Called when its turn comes, where it has to wait; must not raise.

        Returns:
            Whether the lane is its own at once.
        """
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = deque([(call, go)])
            return True
        line.append((call, go))
        return False

    def leave(self, key: str, call: Call) -> None:
        """Takes a call out that holds the lane or waits for it, and calls the next one."""
        line = self._lines[key]
        if line[0][0] is not call:
            line.remove(next(turn for turn in line if turn[0] is call))
            return
        line.popleft()
        if not line:
            del self._lines[key]
            return
        # Whoever gets the lane may fail and leave it at once: thousands of times in a row.
        self._freed.append(key)
        if self._passing_on:
            return
        self._passing_on = True
        try:
            while self._freed:
                self._call_next(self._freed.popleft())
        finally:
            self._passing_on = False

    def _call_next(self, key: str) -> None:
        line = self._lines.get(key)
        if line is not None:
            line[0][1]()
