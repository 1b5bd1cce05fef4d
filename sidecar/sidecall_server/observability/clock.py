"""The clock of the machine."""

import asyncio
import time
from collections.abc import Callable

from sidecall_server.core.ports import Timer


class SystemClock:
    """Time of the machine, with timers of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now_ns = time.monotonic_ns
        self.unix_ns = time.time_ns

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Calls back on the event loop at or after a point on the monotonic clock."""
        delay_s = max(0, when_ns - time.monotonic_ns()) / 1e9
        return self._loop.call_later(delay_s, callback)
