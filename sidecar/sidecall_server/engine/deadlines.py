"""When the calls of a batch must be final."""

from heapq import heappop, heappush

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import Reason
from sidecall_server.engine.watchdog import NEVER

BATCH_OVER = "The time for the turn's calls is over."


class Deadlines:
    """The deadline of a batch, and those of its calls that have their own.

    Attributes:
        batch_ns: The batch's deadline; NEVER without one.
        bounded: Whether there is any deadline.
    """

    __slots__ = ("_calls", "_timed", "batch_ns", "bounded")

    def __init__(self, batch_ns: int | None) -> None:
        self.batch_ns = NEVER if batch_ns is None else batch_ns
        self.bounded = batch_ns is not None
        self._timed: list[tuple[int, int]] = []  # a heap of deadlines and positions
        self._calls: dict[int, Call] = {}

    def add(self, call: Call) -> int:
        """Takes note of a call with a timeout; returns its deadline."""
        self.bounded = True
        deadline_ns = _own_deadline(call)
        self._calls[call.index] = call
        heappush(self._timed, (deadline_ns, call.index))
        return deadline_ns

    def bring_forward(self, batch_ns: int) -> bool:
        """Has the batch end earlier; returns False where it does anyway."""
        if batch_ns >= self.batch_ns:
            return False
        self.batch_ns = batch_ns
        self.bounded = True
        return True

    def replace(self, call: Call) -> None:
        """Has the next attempt of a call stand for it."""
        if call.index in self._calls:
            self._calls[call.index] = call

    def of(self, call: Call) -> int:
        """When a call must be final: its own deadline or the batch's."""
        return min(_own_deadline(call), self.batch_ns)

    def missed(self, call: Call) -> tuple[Reason, str]:
        """What a call ends with that reaches its deadline."""
        if _own_deadline(call) <= self.batch_ns:
            return Reason.CALL_DEADLINE, "The time for the call is over."
        return Reason.BATCH_DEADLINE, BATCH_OVER

    def pop_due(self, now_ns: int) -> list[Call]:
        """Takes out the calls whose own deadline has come and that are not final."""
        due: list[Call] = []
        while self._timed:
            deadline_ns, index = self._timed[0]
            is_final = self._calls[index].outcome is not None
            if deadline_ns > now_ns and not is_final:
                break
            heappop(self._timed)
            call = self._calls.pop(index)
            if not is_final:
                due.append(call)
        return due

    def next_ns(self) -> int:
        """The next deadline of the batch or of a call."""
        return min(self.batch_ns, self._timed[0][0] if self._timed else NEVER)


def queued_since(call: Call) -> int:
    """When the wait of a call's current attempt for its turn began."""
    return call.queue_clock_ns or call.ready_ns


def _own_deadline(call: Call) -> int:
    timeout_s = call.request.timeout_s
    return NEVER if timeout_s is None else call.received_ns + int(timeout_s * 1e9)
