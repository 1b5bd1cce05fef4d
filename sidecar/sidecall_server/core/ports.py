"""What the engine asks of the world around it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sidecall_server.core.call import Arguments, Call
from sidecall_server.core.outcome import Failure, Outcome
from sidecall_server.core.tool import ToolSpec

Handler = Callable[[Call], Awaitable[Outcome]]
"""Runs one admitted attempt. It returns every failure of the tool as a value and raises
nothing but CancelledError, and that only when `call.cancelled` is set."""

Layer = Callable[[Handler], Handler]
"""Wraps a handler with one policy."""

Prepare = Callable[[Arguments], Arguments | Failure]
"""Turns validated JSON arguments into what the tool's function takes, or says what is
wrong with them. Synchronous, and without effects."""


class Timer(Protocol):
    """A callback that is due."""

    def cancel(self) -> None:
        """Withdraws it."""


class Clock(Protocol):
    """Time. Tests replace it."""

    def now_ns(self) -> int:
        """Nanoseconds of a monotonic clock."""

    def unix_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Calls back on the event loop at or after a point on the monotonic clock."""


class Places(Protocol):
    """Where a tool runs that comes and goes, such as applications that attach."""

    @property
    def is_available(self) -> bool:
        """Whether there is a place at present."""

    @property
    def slots(self) -> Mapping[str, int]:
        """Most attempts that each place runs at a time, of all tools together, by its id."""


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool and the means to run it.

    Attributes:
        spec: Its description.
        handler: Runs one attempt.
        prepare: Turns validated arguments into the function's; None where nothing is to do.
        source: Where it comes from, for people.
        places: Where it runs; None for the sidecar itself, which is always there.
    """

    spec: ToolSpec
    handler: Handler
    prepare: Prepare | None = None
    source: str = ""
    places: Places | None = None


class Backend(Protocol):
    """A place where tools live.

    A backend makes no promise about concurrency: the engine admits at most as many
    attempts as the tool's limits and groups allow.
    """

    async def start(self) -> Sequence[BoundTool]:
        """Starts what its tools need and returns them; raises on failure."""

    async def stop(self, grace_s: float) -> None:
        """Ends everything it started, within about `grace_s` seconds. Idempotent."""

    def statistics(self) -> Mapping[str, int]:
        """Counts for people: for example threads or processes, busy and idle."""
