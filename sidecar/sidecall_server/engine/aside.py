"""Ready calls of a batch that wait for something other than permits."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from sidecall_server.core.call import BlockCause, Call
from sidecall_server.engine.blocking import add_blocked
from sidecall_server.engine.flights import Flight


class Wait(NamedTuple):
    """What one call waits for.

    Attributes:
        call: The call.
        cause: What it is blocked on.
        since_ns: Since when.
        leave: Withdraws it; called when it is given up.
        flight: The run of the same call that it follows; None where it follows none.
    """

    call: Call
    cause: BlockCause
    since_ns: int
    leave: Callable[[], None]
    flight: Flight | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether what it waits for is its own end."""
        return self.flight is not None and self.flight.has_started


class Aside:
    """The waits of one batch.

    Attributes:
        waits: What each call waits for, by its position.
    """

    __slots__ = ("waits",)

    def __init__(self) -> None:
        self.waits: dict[int, Wait] = {}

    def __iter__(self) -> Iterator[Wait]:
        return iter(list(self.waits.values()))

    def put(self, wait: Wait) -> None:
        """Has a call wait."""
        self.waits[wait.call.index] = wait

    def end(self, call: Call, now_ns: int) -> Wait | None:
        """Ends the wait of a call and books it; None where it does not wait."""
        wait = self.waits.pop(call.index, None)
        if wait is not None:
            add_blocked(call, wait.cause, now_ns - wait.since_ns)
        return wait
