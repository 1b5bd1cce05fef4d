"""Short turns on the event loop: no batch keeps it from others for long."""

import asyncio
from collections.abc import Iterator

from sidecall_server.core.ports import Clock

SLICE_NS = 2_000_000
"""Time that all work of the engine may take in one iteration of the event loop, apart
from a step of a tool that does not suspend."""


class Slices:
    """One budget per iteration of the loop, shared by everything that may take long.

    Attributes:
        end_ns: When the slice is used up; 0 where nobody has asked in this iteration.
    """

    __slots__ = ("_clock", "_loop", "end_ns")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self.end_ns = 0

    def used_up(self, now_ns: int) -> bool:
        """Whether whoever asks should pass on; opens the slice when asked first."""
        if not self.end_ns:
            self.end_ns = now_ns + SLICE_NS
            self._loop.call_soon(self._reset)
            return False
        return now_ns >= self.end_ns

    def _reset(self) -> None:
        self.end_ns = 0

    def spread(self, steps: Iterator[None]) -> None:
        """Takes steps now; those that the slice has no time for, in later iterations."""
        for _ in steps:
            if self.used_up(self._clock.now_ns()):
                self._loop.call_soon(self.spread, steps)
                return

    async def breathe(self) -> None:
        """Lets others run if the slice is used up."""
        if self.used_up(self._clock.now_ns()):
            await asyncio.sleep(0)
