"""When the calls of a batch must be final."""

from collections.abc import Iterator

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

    __slots__ = ("_timed", "batch_ns", "bounded")

    def __init__(self, batch_ns: int | None) -> None:
        self.batch_ns = NEVER if batch_ns is None else batch_ns
        self.bounded = batch_ns is not None
        self._timed: list[Call] = []

    def add(self, call: Call) -> int:
        """Takes note of a call with a timeout; returns its deadline."""
        self.bounded = True
        self._timed.append(call)
        return _own_deadline(call)

    def of(self, call: Call) -> int:
        """When a call must be final: its own deadline or the batch's."""
        return min(_own_deadline(call), self.batch_ns)

    def missed(self, call: Call) -> tuple[Reason, str]:
        """What a call ends with that reaches its deadline."""
        if _own_deadline(call) <= self.batch_ns:
            return Reason.CALL_DEADLINE, "The time for the call is over."
        return Reason.BATCH_DEADLINE, BATCH_OVER

    def open_calls(self) -> Iterator[tuple[Call, int]]:
        """The calls with a timeout of their own that are not final, and their deadlines."""
        self._timed = [call for call in self._timed if call.outcome is None]
        for call in list(self._timed):
            yield call, _own_deadline(call)


def _own_deadline(call: Call) -> int:
    timeout_s = call.request.timeout_s
    return NEVER if timeout_s is None else call.received_ns + int(timeout_s * 1e9)
