"""When an RPC may be sent again, and after how long."""

import random
import time
from collections.abc import Callable

import grpc

from sidecall._rpc_errors import SidecallError

DEFAULT_RETRIES = 7
"""A sidecar that restarts serves again within their pauses, 3.5 to 7 seconds together."""

LONGEST_WAIT_S = 5.0
"""A sidecar that asks for a longer pause before the next attempt gets none: whether to wait
so long is the caller's choice, who may have other things to do."""

_INITIAL_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 2.0


class Attempts:
    """The attempts of one RPC, within its deadline.

    Attributes:
        repeatable: Whether sending again is harmless even if the RPC was received.

    Args:
        retries: Most attempts after the first. None for `DEFAULT_RETRIES`, or, where there is
            a deadline, for as many as fit once something may have been started: who gives up
            then never learns of it.
        timeout_s: Seconds for all attempts together; None for no bound.
        repeatable: See the attribute.
        may_have_started: Whether an earlier RPC may have started what this one asks for.
        clock: Monotonic seconds.
        jitter: Draws from [0, 1).
    """

    def __init__(
        self,
        retries: int | None,
        timeout_s: float | None,
        *,
        repeatable: bool = False,
        may_have_started: bool = False,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._left = DEFAULT_RETRIES if retries is None else retries
        self._by_default = retries is None
        self.repeatable = repeatable
        self._clock = clock
        self._jitter = jitter
        self._backoff_s = _INITIAL_BACKOFF_S
        self._deadline = None if timeout_s is None else clock() + timeout_s
        self._may_have_started = may_have_started

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, never negative; None for no bound."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock())

    def delay_s(self, error: SidecallError) -> float | None:
        """Seconds to wait before the next attempt; None: the error is final.

        An error then speaks of all attempts: where an earlier one may have started calls,
        it is no longer `not_started`.
        """
        self._may_have_started |= not error.not_started
        error.not_started = not self._may_have_started
        if not self._may_go_on() or not self._may_repeat(error):
            return None
        self._left -= 1
        # Half of it is sure: pauses of next to nothing would be over before a restart is.
        delay = (1 + self._jitter()) / 2 * self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, _MAX_BACKOFF_S)
        if error.retry_after_s is not None:
            delay += error.retry_after_s
        remaining = self.remaining_s()
        return delay if remaining is None or delay < remaining else None

    def _may_go_on(self) -> bool:
        insists = self._by_default and self._may_have_started and self._deadline is not None
        return insists or self._left > 0

    def _may_repeat(self, error: SidecallError) -> bool:
        if error.retry_after_s is not None and error.retry_after_s > LONGEST_WAIT_S:
            return False
        return is_transient(error) and (error.not_started or self.repeatable)


def is_transient(error: SidecallError) -> bool:
    """Whether the same RPC may succeed a little later: a lost connection, for example."""
    return error.code is grpc.StatusCode.UNAVAILABLE or error.retry_after_s is not None
