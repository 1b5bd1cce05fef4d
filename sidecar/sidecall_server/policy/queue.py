"""Bounded queues: how many ready calls of one tool may wait, and whose."""

from collections import Counter
from collections.abc import Hashable, Sized

TurnKey = tuple[Hashable, Hashable]
"""A caller, and one of its batches."""


class ToolQueue:
    """The ready calls of one tool that wait. Belongs to the tool's name.

    A caller that filled the queue leaves each other caller room for its share: the bound
    divided by the callers that wait.

    Attributes:
        max_calls: Most calls that may wait.
        count: Calls that wait.
    """

    __slots__ = ("_aside", "_lines", "count", "max_calls")

    def __init__(self, max_calls: int) -> None:
        self.max_calls = max_calls
        self.count = 0
        self._lines: dict[TurnKey, Sized] = {}
        self._aside: Counter[Hashable] = Counter()

    def set_aside(self, caller: Hashable) -> None:
        """Takes note of a call that waits, but not for permits yet."""
        self.count += 1
        self._aside[caller] += 1

    def end_aside(self, caller: Hashable) -> None:
        """Takes note that such a call goes on, or waits no more."""
        self.count -= 1
        self._aside[caller] -= 1
        if not self._aside[caller]:
            del self._aside[caller]

    def join(self, key: TurnKey, line: Sized) -> None:
        """Takes note of a line of calls of one batch; it may grow and shrink."""
        self._lines[key] = line

    def leave(self, key: TurnKey) -> None:
        """Forgets a batch. Idempotent."""
        self._lines.pop(key, None)

    def is_full(self, caller: Hashable, free_permits: int) -> bool:
        """Whether one more call of a caller has neither a permit nor a place to wait."""
        if self.count < self.max_calls + free_permits:
            return False
        waiting = {caller: 0, **self._aside}
        for (owner, _), line in self._lines.items():
            if len(line):
                waiting[owner] = waiting.get(owner, 0) + len(line)
        return waiting[caller] >= self.max_calls // len(waiting)
