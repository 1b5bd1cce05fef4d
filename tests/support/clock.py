"""Time that passes when a test says so."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

_SETTLE_TURNS = 40


class FakeTimer:
    """A callback that is due on a fake clock."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Withdraws it."""
        self.callback = None


class FakeClock:
    """A clock that stands still until `advance`. Implements core.ports.Clock.

    Points in time are nanoseconds; the monotonic clock begins at one second, so that no
    point in time is mistaken for "never".
    """

    def __init__(self) -> None:
        self._now_ns = 1_000_000_000
        self._numbers = itertools.count()
        self._timers: list[tuple[int, int, FakeTimer]] = []

    def now_ns(self) -> int:
        """Nanoseconds of the monotonic clock."""
        return self._now_ns

    def unix_ns(self) -> int:
        """Nanoseconds since the Unix epoch: the monotonic clock in another century."""
        return self._now_ns + 1_600_000_000_000_000_000

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> FakeTimer:
        """Calls back when `advance` reaches a point in time."""
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (when_ns, next(self._numbers), timer))
        return timer

    @property
    def armed(self) -> int:
        """Timers that are due some time and were not withdrawn."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    async def advance(self, seconds: float) -> None:
        """Lets time pass: fires timers in order and lets the loop settle after each."""
        await settle()
        end_ns = self._now_ns + round(seconds * 1e9)
        while self._timers and self._timers[0][0] <= end_ns:
            when_ns, _, timer = heapq.heappop(self._timers)
            if timer.callback is None:
                continue
            self._now_ns = max(self._now_ns, when_ns)
            callback, timer.callback = timer.callback, None
            callback()
            await settle()
        self._now_ns = end_ns
        await settle()


async def settle() -> None:
    """Lets all callbacks and tasks run that need no time, and those that they start."""
    for _ in range(_SETTLE_TURNS):
        await asyncio.sleep(0)
