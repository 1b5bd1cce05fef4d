"""Clients that say nothing."""

from collections.abc import Callable

from sidecall_server.core.ports import Clock, Timer


class IdleTimer:
    """Calls back once when nothing was heard for some time.

    A message costs one look at the clock: the timer finds out when it fires whether it
    has to wait longer.
    """

    def __init__(self, clock: Clock, timeout_s: float, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._timeout_ns = int(timeout_s * 1e9)
        self._callback = callback
        self._heard_ns = clock.now_ns()
        self._timer: Timer = clock.call_at(self._heard_ns + self._timeout_ns, self._fire)

    def heard(self) -> None:
        """Counts the time from now."""
        self._heard_ns = self._clock.now_ns()

    def stop(self) -> None:
        """Does not call back any more. Idempotent."""
        self._timer.cancel()

    def _fire(self) -> None:
        due_ns = self._heard_ns + self._timeout_ns
        if self._clock.now_ns() < due_ns:
            self._timer = self._clock.call_at(due_ns, self._fire)
        else:
            self._callback()
