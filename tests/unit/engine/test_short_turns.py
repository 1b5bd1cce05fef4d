"""What concerns thousands of calls at once takes many turns of the event loop, not one."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.support.clock import FakeClock, settle
from tests.support.engines import Bench, bench, bound, calls_of, echo, fail, failure_of, reasons

from sidecall_server.core.call import BatchOptions, Call, Mode, OnFailure, ToolCall
from sidecall_server.core.events import CallEvent, Finished, Started
from sidecall_server.core.outcome import ExecutionState, Failure, Reason
from sidecall_server.core.tool import Breaker, Effects, Lane, Sharing
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.intake import take_in
from sidecall_server.engine.stream import StreamIntake

COUNT = 3_000
MOST_AT_ONCE = 400
"""Calls that may become final in one turn of the loop: a slice holds about 100 looks at the
clock, and more than one thing may use it."""


class TickingClock(FakeClock):
    """A clock on which every look costs 20 microseconds, as on a busy machine."""

    def now_ns(self) -> int:
        """Nanoseconds of the monotonic clock, one tick later than last time."""
        self._now_ns += 20_000
        return self._now_ns


class Turns:
    """Counts the turns of the event loop, and what happens in each.

    Attributes:
        number: The turn that is on.
        finished: Calls that became final, by turn.
        started: Calls that were started, by turn.
    """

    def __init__(self) -> None:
        self.number = 0
        self.finished: Counter[int] = Counter()
        self.started: Counter[int] = Counter()

    def observe(self, event: CallEvent) -> None:
        if isinstance(event, Finished):
            self.finished[self.number] += 1
        elif isinstance(event, Started):
            self.started[self.number] += 1

    async def until(self, task: "asyncio.Future[Any]") -> int:
        """Lets the loop turn until a task is done; returns how many turns that took."""
        before = self.number
        while not task.done():
            self.number += 1
            await asyncio.sleep(0)
        task.result()
        return self.number - before

    async def run(self, work: Coroutine[Any, Any, Any]) -> int:
        """As `until`, for a coroutine."""
        return await self.until(asyncio.ensure_future(work))

    def assert_short(self, count: int = COUNT) -> None:
        """Asserts that so many calls became final, never too many at once."""
        assert self.finished.total() == count
        assert max(self.finished.values()) <= MOST_AT_ONCE


async def executed(b: Bench, turns: Turns, calls: list[ToolCall], **options: Any) -> list[Call]:
    task = asyncio.ensure_future(b.engine.execute(calls, BatchOptions(**options), turns.observe))
    await turns.until(task)
    return [task.result().calls[index] for index in range(len(calls))]


async def test_a_call_that_waits_for_a_person_ends_thousands_bit_by_bit() -> None:
    turns = Turns()
    ask = bound("ask", echo, requires_approval=True)
    async with bench(ask, bound("echo", echo), clock=TickingClock()) as b:
        calls = [ToolCall("", "ask"), *calls_of("echo", COUNT - 1)]
        ended = await executed(b, turns, calls, mode=Mode.SEQUENTIAL)

        assert set(reasons(ended)) == {"APPROVAL_REQUIRED"}
        turns.assert_short()


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_failure_stops_thousands_bit_by_bit(mode: Mode) -> None:
    turns = Turns()
    tools = bound("fail", fail), bound("echo", echo, max_concurrency=1)
    async with bench(*tools, clock=TickingClock()) as b:
        calls = [ToolCall("", "fail"), *calls_of("echo", COUNT - 1)]
        ended = await executed(b, turns, calls, mode=mode, on_failure=OnFailure.STOP)

        assert Counter(reasons(ended))["STOPPED"] > COUNT - MOST_AT_ONCE
        turns.assert_short()
        # Whoever waited for a permit was withdrawn before any other call became final.
        stopped = max(turns.started)
        assert all(turn >= stopped for turn, count in turns.finished.items() if count > 2)


async def test_thousands_that_depend_on_a_failure_end_bit_by_bit() -> None:
    turns = Turns()
    async with bench(bound("fail", fail), bound("echo", echo), clock=TickingClock()) as b:
        calls = [ToolCall("first", "fail"), *calls_of("echo", COUNT - 1, depends_on=("first",))]
        ended = await executed(b, turns, calls)

        assert Counter(reasons(ended)) == {"TOOL_FAILED": 1, "DEPENDENCY_FAILED": COUNT - 1}
        turns.assert_short()


async def test_a_run_lands_thousands_of_followers_bit_by_bit() -> None:
    turns, door = Turns(), asyncio.Event()

    async def behind_door(_: Call) -> str:
        await door.wait()
        return "done"

    sharing = Sharing(coalesce=True, cache_ttl_s=None, all_callers=False, context_keys=None)
    shared = bound("shared", behind_door, effects=Effects.READ_ONLY, sharing=sharing)
    async with bench(shared, clock=TickingClock()) as b:
        task = asyncio.ensure_future(
            b.engine.execute(calls_of("shared", COUNT), BatchOptions(), turns.observe)
        )
        for _ in range(COUNT):
            await asyncio.sleep(0)
        door.set()
        await turns.until(task)

        assert turns.started.total() == 1
        turns.assert_short()
        b.assert_idle()


async def test_an_open_breaker_refuses_thousands_bit_by_bit() -> None:
    turns = Turns()

    async def broken(_: Call) -> Failure:
        return Failure(Reason.TOOL_UNAVAILABLE, "away", ExecutionState.COMPLETED)

    tool = bound("tool", broken, max_concurrency=1, breaker=Breaker(0.5, 1, 10, 10, 1))
    async with bench(tool, clock=TickingClock()) as b:
        ended = await executed(b, turns, calls_of("tool", COUNT))

        assert Counter(reasons(ended)) == {"TOOL_UNAVAILABLE": 1, "CIRCUIT_OPEN": COUNT - 1}
        assert turns.started.total() == 1
        turns.assert_short()
        b.assert_idle()


async def test_thousands_are_cancelled_bit_by_bit_and_none_starts_meanwhile() -> None:
    turns, running = Turns(), asyncio.Event()

    async def hang(_: Call) -> str:
        running.set()
        await asyncio.Event().wait()
        return "never"

    async with bench(bound("hang", hang, max_concurrency=5), clock=TickingClock()) as b:
        batch = b.engine.open(BatchOptions(), turns.observe)
        await turns.run(take_in(batch, calls_of("hang", COUNT), b.engine.slices))
        await running.wait()
        started = turns.started.total()
        batch.cancel(Reason.BATCH_DEADLINE, "over")
        took = await turns.until(batch.done)
        b.engine.close(batch)

        assert set(reasons(list(batch.calls.values()))) == {"BATCH_DEADLINE"}
        assert turns.started.total() == started == 5
        assert took > COUNT // MOST_AT_ONCE
        turns.assert_short()
        await settle()
        b.assert_idle()


async def test_closing_a_batch_leaves_nothing_for_later() -> None:
    turns = Turns()
    async with bench(bound("echo", echo, max_concurrency=1), clock=TickingClock()) as b:
        batch = b.engine.open(BatchOptions(), turns.observe)
        for index, call in enumerate(calls_of("echo", COUNT)):
            batch.add([Call(index, call, batch.options, turns.observe, batch.received_ns)])
        batch.cancel(Reason.BATCH_DEADLINE, "over")
        assert not batch.done.done()
        b.engine.close(batch)

        assert batch.done.done()
        assert set(reasons(list(batch.calls.values()))) == {"BATCH_DEADLINE"}


LANED = Lane("key:{key}")


def entangled(count: int) -> list[ToolCall]:
    """Calls of one tool, half of which refer to later ones, in a few lanes."""
    half = count // 2
    return [
        ToolCall(f"c{i}", "tool", f'{{"key": "a{i % 3}", "value": "$ref:@{count - i}"}}')
        if i < half
        else ToolCall(f"c{i}", "tool", '{"key": "b"}')
        for i in range(count)
    ]


async def streamed(b: Bench, calls: list[ToolCall]) -> StreamIntake:
    intake = StreamIntake(b.engine, b.engine.open(BatchOptions()))
    for index, call in enumerate(calls):
        await intake.add(index, call)
    return intake


@pytest.mark.parametrize("calls", [entangled(600), [ToolCall("", "tool", '{"key": 1}')] * 600])
async def test_the_seal_of_a_turn_with_lanes_lets_others_run(calls: list[ToolCall]) -> None:
    turns = Turns()
    async with bench(bound("tool", echo, lane=LANED), clock=TickingClock()) as b:
        intake = await streamed(b, calls)
        batch = intake.batch
        seal = asyncio.ensure_future(intake.seal(len(calls)))
        # At least two looks per call: 24 ms in slices of 2 ms.
        while not seal.done():
            linking = len(batch.order) < 500
            assert not (linking and any(call.started_ns for call in batch.calls.values()))
            turns.number += 1
            await asyncio.sleep(0)
        seal.result()
        await turns.until(batch.done)
        b.engine.close(batch)

        assert turns.number > 10
        assert set(reasons(list(batch.calls.values()))) == {"OK"}


def abandon(intake: StreamIntake) -> None:
    intake.abandon("over")


def end(intake: StreamIntake) -> None:
    intake.batch.cancel(Reason.CANCELLED, "over")


@pytest.mark.parametrize("stop", [abandon, end])
@pytest.mark.parametrize("turn", [2, 5, 9])
async def test_a_turn_that_is_over_is_linked_no_further(
    stop: Callable[[StreamIntake], None], turn: int
) -> None:
    turns = Turns()
    async with bench(bound("tool", echo, lane=LANED), clock=TickingClock()) as b:
        intake = await streamed(b, entangled(600))
        batch = intake.batch
        seal = asyncio.ensure_future(intake.seal(600))
        for _ in range(turn):
            await asyncio.sleep(0)
        assert not seal.done()
        stop(intake)
        linked = len(batch.edges), len(batch.order), _members(batch)
        await turns.until(seal)
        await turns.until(batch.done)
        b.engine.close(batch)

        assert (len(batch.edges), len(batch.order), _members(batch)) == linked
        assert set(reasons(list(batch.calls.values()))) == {"CANCELLED"}
        assert not any(call.attempt for call in batch.calls.values())
        b.assert_idle()


@pytest.mark.parametrize("turn", [1, 4, 12])
async def test_a_deadline_ends_a_batch_that_is_being_taken_in(turn: int) -> None:
    turns, clock = Turns(), TickingClock()
    calls = entangled(2_000)
    async with bench(bound("tool", echo, lane=LANED), clock=clock) as b:
        options = BatchOptions(deadline_ns=clock.now_ns() + 1, session_id="s")
        batch = b.engine.open(options, turns.observe)
        assert clock.armed == 1
        taking_in = asyncio.ensure_future(take_in(batch, calls, b.engine.slices))
        for _ in range(turn):
            await asyncio.sleep(0)
        assert not taking_in.done()
        assert not batch.over
        await clock.advance(0)
        assert batch.over
        linked = len(batch.edges), len(batch.order)
        await turns.until(taking_in)
        await turns.until(batch.done)
        b.engine.close(batch)

        assert (len(batch.edges), len(batch.order)) == linked
        assert len(batch.calls) == len(calls)
        assert set(reasons(list(batch.calls.values()))) == {"BATCH_DEADLINE"}
        states = {failure_of(call).state for call in batch.calls.values()}
        assert states == {ExecutionState.NOT_STARTED}
        assert not any(call.attempt for call in batch.calls.values())


async def test_calls_whose_order_takes_too_much_to_find_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecall_server.core.lane_order.MAX_WORK", 500)
    async with bench(bound("tool", echo, lane=LANED)) as b:
        ended = await b.run(entangled(600))

        found = reasons(ended)
        assert found[-1] == "REFERENCE_UNRESOLVED"
        assert "OK" in found or "DEPENDENCY_FAILED" in found
        assert set(found) <= {"OK", "DEPENDENCY_FAILED", "REFERENCE_UNRESOLVED"}
        b.assert_idle()


def _members(batch: Batch) -> int:
    return 0 if batch.lanes is None else len(batch.lanes.members)
