"""Engines on a fake clock, and tools for them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.clock import FakeClock, settle

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.events import Observer
from sidecall_server.core.outcome import ExecutionState, Failure, Outcome, Reason, Success
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.records import RecordStore
from sidecall_server.core.tool import Group, ToolSpec
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.engine import Engine
from sidecall_server.engine.registry import Registry

ToolFunction = Callable[[Call], Awaitable[Outcome | str]]

ANY_OBJECT: dict[str, object] = {"type": "object"}


def bound(name: str, function: ToolFunction, **spec: Any) -> BoundTool:
    """A tool that runs a coroutine function, translating as backends must."""

    async def handle(call: Call) -> Outcome:
        try:
            result = await function(call)
        except asyncio.CancelledError:
            if call.cancelled:
                raise
            return raised("cancelled itself")
        except ToolRaisedError as error:
            return raised(str(error))
        return Success(result) if isinstance(result, str) else result

    spec.setdefault("input_schema", ANY_OBJECT)
    return BoundTool(ToolSpec(name, f"The tool {name}.", **spec), handle, source="a test")


class ToolRaisedError(Exception):
    """Stands for whatever a tool may raise."""


def raised(message: str) -> Failure:
    """What a backend makes of a tool that raised."""
    return Failure(Reason.TOOL_FAILED, message, ExecutionState.COMPLETED)


@dataclass
class Gate:
    """A tool whose calls end when the test says so.

    Attributes:
        started: Positions of the calls that were started, in order.
        running: Calls that run now.
        peak: Most calls that ran at a time.
        cancelled: Positions of the calls that were cancelled.
    """

    started: list[int] = field(default_factory=list)
    running: Counter[int] = field(default_factory=Counter)
    peak: int = 0
    cancelled: list[int] = field(default_factory=list)
    _doors: dict[int, asyncio.Event] = field(default_factory=dict)

    def door(self, index: int) -> asyncio.Event:
        """What the call at a position waits for."""
        return self._doors.setdefault(index, asyncio.Event())

    def open(self, *indexes: int) -> None:
        """Lets calls end, also before they start."""
        for index in indexes:
            self.door(index).set()

    async def __call__(self, call: Call) -> str:
        """Runs a call."""
        self.started.append(call.index)
        self.running[call.index] += 1
        self.peak = max(self.peak, self.running.total())
        try:
            await self.door(call.index).wait()
        except asyncio.CancelledError:
            self.cancelled.append(call.index)
            raise
        finally:
            self.running[call.index] -= 1
        return f"result {call.index}"


async def echo(call: Call) -> str:
    """Returns the argument `text`, or says that there is none."""
    return str(call.arguments.get("text", "done"))


async def fail(call: Call) -> str:
    """Raises."""
    raise ToolRaisedError(f"call {call.index} failed")


async def hang(call: Call) -> str:
    """Never returns."""
    await asyncio.Event().wait()
    return f"call {call.index} cannot get here"


class Bench:
    """An engine and its fake clock.

    Attributes:
        engine: The engine.
        clock: Its time.
    """

    def __init__(self, engine: Engine, clock: FakeClock) -> None:
        self.engine = engine
        self.clock = clock
        self._turns: list[asyncio.Task[Batch]] = []

    async def start(
        self,
        calls: Sequence[ToolCall],
        observer: Observer | None = None,
        **options: Any,
    ) -> "Turn":
        """Sends a batch and lets the loop settle. `timeout_s` is its deadline from now."""
        timeout_s = options.pop("timeout_s", None)
        if timeout_s is not None:
            options["deadline_ns"] = self.clock.now_ns() + round(timeout_s * 1e9)
        task = asyncio.create_task(self.engine.execute(calls, BatchOptions(**options), observer))
        self._turns.append(task)
        await settle()
        return Turn(task)

    async def run(self, calls: Sequence[ToolCall], **options: Any) -> list[Call]:
        """Runs a batch whose calls need no time."""
        turn = await self.start(calls, **options)
        return turn.calls()

    def assert_idle(self) -> None:
        """Asserts that nothing is held or waited for any more."""
        statistics = self.engine.statistics()
        assert statistics.open_batches == 0
        assert statistics.running == 0
        assert statistics.queued == 0
        assert statistics.lanes == 0
        assert statistics.shared_runs == 0
        for name, limiter in statistics.limiters.items():
            assert (name, limiter.active, limiter.waiting) == (name, 0, 0)
        for rate in self.engine.registry.rates():
            assert (rate.name, rate.waiting, rate.ring.count, rate.timer) == (rate.name, 0, 0, None)

    async def close(self) -> None:
        """Ends what the test left."""
        for task in self._turns:
            task.cancel()
        if self._turns:
            await asyncio.wait(self._turns)
        await self.engine.stop(1.0)


class Turn:
    """A batch that was sent."""

    def __init__(self, task: asyncio.Task[Batch]) -> None:
        self.task = task

    @property
    def done(self) -> bool:
        """Whether it was answered."""
        return self.task.done()

    def calls(self) -> list[Call]:
        """Its calls in order; fails where it was not answered."""
        assert self.task.done(), "the batch was not answered"
        batch = self.task.result()
        return [batch.calls[index] for index in range(len(batch.calls))]


def calls_of(name: str, count: int, **fields: Any) -> list[ToolCall]:
    """So many calls of one tool."""
    return [ToolCall(f"{name}-{index}", name, **fields) for index in range(count)]


def reasons(calls: Sequence[Call]) -> list[str]:
    """The reason of each call's failure; OK where it has none."""
    return [
        call.outcome.reason.name if isinstance(call.outcome, Failure) else "OK" for call in calls
    ]


def text_of(call: Call) -> str:
    """What an OK call returned."""
    assert isinstance(call.outcome, Success), call.outcome
    return call.outcome.text


def failure_of(call: Call) -> Failure:
    """Why a call failed."""
    assert isinstance(call.outcome, Failure), call.outcome
    return call.outcome


@asynccontextmanager
async def bench(
    *tools: BoundTool,
    clock: FakeClock | None = None,
    groups: Mapping[str, Group] | None = None,
    random: Callable[[], float] | None = None,
    store: RecordStore | None = None,
    **limits: Any,
) -> AsyncIterator[Bench]:
    """An engine on a fake clock with some tools, and limits that differ from the defaults."""
    clock = clock or FakeClock()
    engine = Engine(Limits(**limits), clock)
    if random is not None:
        engine.registry = Registry(engine.limits, clock.now_ns, random)
    if store is not None:
        engine.keep_in(store)
    engine.swap(tools, groups or {})
    made = Bench(engine, clock)
    try:
        yield made
    finally:
        await made.close()
