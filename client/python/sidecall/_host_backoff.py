"""How long a host waits before it attaches again."""

import random
import time
from collections.abc import Callable

_INITIAL_S = 0.1
_MAX_S = 5.0
_STEADY_S = 10.0
"""An attachment that lasted for so long begins the pauses anew."""


class Backoff:
    """Pauses with exponential backoff and full jitter."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Takes where time and chance come from.

        Args:
            clock: Monotonic seconds.
            jitter: Draws from [0, 1).
        """
        self._clock = clock
        self._jitter = jitter
        self._bound_s = _INITIAL_S
        self._attached_at: float | None = None

    def attached(self) -> None:
        """Says that an attempt had success."""
        self._attached_at = self._clock()

    def next_s(self, retry_after_s: float | None = None) -> float:
        """Seconds until the next attempt.

        Args:
            retry_after_s: What the sidecar asked for; None for nothing. It is waited for
                in full.
        """
        attached_at, self._attached_at = self._attached_at, None
        if attached_at is not None and self._clock() - attached_at >= _STEADY_S:
            self._bound_s = _INITIAL_S
        pause_s = self._jitter() * self._bound_s
        self._bound_s = min(self._bound_s * 2, _MAX_S)
        return pause_s + (retry_after_s or 0.0)
