"""A tool whose attempts end one by one, as the test says."""

import asyncio
from typing import Any

from tests.support.clock import settle
from tests.support.engines import bound, raised

from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.outcome import Outcome, Success
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import Effects, Sharing

COALESCE = Sharing(coalesce=True, cache_ttl_s=None, all_callers=False, context_keys=())
FOR_ALL = Sharing(coalesce=True, cache_ttl_s=None, all_callers=True, context_keys=())
CACHE = Sharing(coalesce=False, cache_ttl_s=60.0, all_callers=False, context_keys=())


class Run:
    """One attempt.

    Attributes:
        call: What it runs.
        cancelled: Whether it was cancelled.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.cancelled = False
        self._end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or was told to."""
        return self._end.done()

    @property
    def outcome(self) -> Outcome | None:
        """What it ended with; None where it did not, or was cancelled."""
        return self._end.result() if self.is_over and not self.cancelled else None

    def is_of(self, call: Call) -> bool:
        """Whether it is an attempt of a call."""
        return self.call.options is call.options and self.call.index == call.index

    async def finish(self, outcome: str | Outcome = "done") -> None:
        """Has it return, and lets the loop settle."""
        self._end.set_result(Success(outcome) if isinstance(outcome, str) else outcome)
        await settle()

    async def fail(self, message: str = "failed") -> None:
        """Has it raise, and lets the loop settle."""
        await self.finish(raised(message))

    async def wait(self) -> Outcome:
        """Waits for its end."""
        try:
            return await self._end
        except asyncio.CancelledError:
            self.cancelled = True
            self._end.cancel()
            raise


class Runs:
    """A tool that keeps its attempts.

    Attributes:
        all: The attempts in the order of their starts.
    """

    def __init__(self) -> None:
        self.all: list[Run] = []

    async def __call__(self, call: Call) -> Outcome:
        """Runs an attempt."""
        run = Run(call)
        self.all.append(run)
        return await run.wait()

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, number: int) -> Run:
        return self.all[number]


def shared(runs: Runs, name: str = "read", sharing: Sharing = COALESCE, **spec: Any) -> BoundTool:
    """A read-only tool whose identical calls share a run."""
    return bound(name, runs, effects=Effects.READ_ONLY, sharing=sharing, **spec)


def read(arguments: str = "", **fields: Any) -> ToolCall:
    """A call of the tool `read`."""
    return ToolCall("", "read", arguments, **fields)
