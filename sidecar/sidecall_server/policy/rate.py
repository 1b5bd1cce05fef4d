"""How often something may start: a token bucket whose permits come back with time."""

from collections.abc import Callable

from sidecall_server.core.call import BlockCause
from sidecall_server.core.ports import Timer
from sidecall_server.core.tool import Rate
from sidecall_server.policy.concurrency import Limiter, P


class RateLimiter(Limiter[P]):
    """A limiter whose permits are spent, and come back one by one as time passes.

    In any period of time it gives out at most the burst and what the rate earns in it.
    `active` counts the permits that have not come back yet; it is exact after `refill`.

    Attributes:
        waiting: Calls that wait and will need a permit.
        timer: Calls back when a permit comes back for which somebody waits.
    """

    __slots__ = ("_rate", "_since_ns", "timer", "waiting")

    def __init__(self, name: str, rate: Rate) -> None:
        super().__init__(name, BlockCause.RATE, rate.burst)
        self._rate = rate
        # The permit that comes back next has been on its way since then.
        self._since_ns = 0
        self.waiting = 0
        self.timer: Timer | None = None

    def change(self, rate: Rate, now_ns: int) -> None:
        """Puts another rate in force; what has been spent stays spent, up to its burst.

        The permit that comes back next stays as far on its way as it is.
        """
        self.refill(now_ns)
        old = self._rate
        passed_ns = now_ns - self._since_ns
        self._since_ns = now_ns - passed_ns * old.count * rate.period_ns // (
            old.period_ns * rate.count
        )
        self._rate = rate
        self.limit = rate.burst
        self.active = min(self.active, rate.burst)

    def refill(self, now_ns: int) -> bool:
        """Counts the permits that have come back; returns whether there is one to give."""
        if self.active:
            rate = self._rate
            earned = (now_ns - self._since_ns) * rate.count // rate.period_ns
            if earned >= self.active:
                self.active = 0
            elif earned > 0:
                self.active -= earned
                self._since_ns += _rounded_up(earned * rate.period_ns, rate.count)
        return self.active < self.limit

    def take(self, now_ns: int) -> None:
        """Spends a permit."""
        self.refill(now_ns)
        if not self.active:
            self._since_ns = now_ns
        self.active += 1
        self.peak = max(self.peak, self.active)

    def next_ns(self) -> int:
        """When the next permit comes back."""
        return self._since_ns + _rounded_up(self._rate.period_ns, self._rate.count)

    def wait_ns(self, ahead: int, now_ns: int) -> int:
        """How long a call waits at least that `ahead` others precede."""
        self.refill(now_ns)
        missing = self.active + ahead + 1 - self.limit
        if missing <= 0:
            return 0
        rate = self._rate
        since_ns = self._since_ns if self.active else now_ns
        return max(0, since_ns + _rounded_up(missing * rate.period_ns, rate.count) - now_ns)

    def ahead_of(self, party: P, calls: Callable[[P], int]) -> int:
        """Calls that have their turn before the next one that a party adds.

        Turns go round callers and then their batches, so that it is not everybody who
        waits. Parties that wait elsewhere are not known: it may be more.

        Args:
            party: Who asks.
            calls: Gives the calls of a party that wait already.
        """
        return self.ring.turns_until(party, calls(party) + 1, calls) - 1


def _rounded_up(amount: int, divisor: int) -> int:
    return -(-amount // divisor)
