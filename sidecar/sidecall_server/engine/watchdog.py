"""One timer for all deadlines of the engine."""

from collections.abc import Callable

from sidecall_server.core.ports import Clock, Timer

NEVER = 1 << 62
"""A point in time that does not come."""


class Watchdog:
    """Calls back at the earliest point in time that anybody asked for.

    A call that ends before its deadline costs one comparison: nothing is withdrawn, and
    the callback finds out what is still due.

    Attributes:
        wake_ns: When it calls back next.
    """

    __slots__ = ("_clock", "_expire", "_timer", "wake_ns")

    def __init__(self, clock: Clock, expire: Callable[[int], int]) -> None:
        """Takes what is called with the time when something may be due.

        It returns when it wants to be called again, `NEVER` for not at all.
        """
        self._clock = clock
        self._expire = expire
        self.wake_ns = NEVER
        self._timer: Timer | None = None

    def arm(self, when_ns: int) -> None:
        """Asks to be called back at a point in time, or before."""
        if when_ns >= self.wake_ns:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.wake_ns = when_ns
        self._timer = self._clock.call_at(when_ns, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.wake_ns = NEVER
        self.arm(self._expire(self._clock.now_ns()))

    def stop(self) -> None:
        """Calls back no more until armed again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.wake_ns = NEVER
