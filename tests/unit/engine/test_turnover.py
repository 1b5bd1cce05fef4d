"""Other tools are put in force, and nothing uses those of earlier batches any more."""

import asyncio
from functools import partial

from tests.support.clock import FakeClock, settle
from tests.support.engines import Gate, bench, bound, calls_of

from sidecall_server.core.call import Call
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import Group, Rate


async def test_an_idle_engine_uses_nothing() -> None:
    async with bench() as made:
        await asyncio.wait_for(made.engine.wait_open_ended(), 60)


async def test_it_waits_for_batches_that_were_open_and_not_for_later_ones() -> None:
    gate = Gate()
    async with bench(bound("wait", gate)) as made:
        early = [await made.start(calls_of("wait", 2)) for _ in range(2)]
        waiting = asyncio.create_task(made.engine.wait_open_ended())
        await settle()
        late = await made.start([*calls_of("wait", 2), *calls_of("wait", 1)])
        gate.open(0)
        await settle()
        assert not waiting.done()
        gate.open(1)
        await settle()
        assert all(turn.done for turn in early)
        assert not late.done
        assert waiting.done()
        gate.open(2)
        await settle()


async def test_calls_that_have_not_started_yet_count() -> None:
    gate = Gate()
    async with bench(bound("wait", gate, max_concurrency=1)) as made:
        await made.start(calls_of("wait", 3))
        waiting = asyncio.create_task(made.engine.wait_open_ended())
        for index in range(3):
            await settle()
            assert not waiting.done()
            gate.open(index)
        await settle()
        assert waiting.done()


class _Stubborn:
    """A tool that goes on after it was cancelled, until the test lets it end."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, call: Call) -> str:
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue
        return "late"


async def test_attempts_that_outlive_their_batch_count() -> None:
    tool = _Stubborn()
    async with bench(bound("stubborn", tool, timeout_s=1.0)) as made:
        turn = await made.start(calls_of("stubborn", 1))
        before = asyncio.create_task(made.engine.wait_open_ended())
        await made.clock.advance(2)
        assert turn.done
        after = asyncio.create_task(made.engine.wait_open_ended())
        await settle()
        assert not before.done()
        assert not after.done()
        tool.release.set()
        await settle()
        assert before.done()
        assert after.done()


async def test_a_cancelled_wait_disturbs_no_other_one() -> None:
    gate = Gate()
    async with bench(bound("wait", gate)) as made:
        await made.start(calls_of("wait", 1))
        waits = [asyncio.create_task(made.engine.wait_open_ended()) for _ in range(2)]
        await settle()
        waits[0].cancel()
        await settle()
        assert not waits[1].done()
        gate.open(0)
        await settle()
        assert waits[1].done()


async def test_calls_that_wait_for_a_limit_go_on_when_it_is_raised() -> None:
    gate = Gate()
    tool = partial(bound, "wait", gate, groups=("shared",))
    async with bench() as made:
        made.engine.swap([tool(max_concurrency=1)], {"shared": Group(max_concurrency=2)})
        await made.start(calls_of("wait", 4))
        assert gate.started == [0]
        made.engine.swap([tool()], {"shared": Group(max_concurrency=2)})
        await settle()
        assert gate.started == [0, 1]
        made.engine.swap([tool()], {"shared": Group(max_concurrency=9)})
        await settle()
        assert gate.started == [0, 1, 2, 3]
        gate.open(0, 1, 2, 3)
        await settle()
        made.assert_idle()


async def test_calls_that_wait_for_a_rate_follow_the_new_one() -> None:
    hour_ns, second_ns = 3_600 * 10**9, 10**9
    gate = Gate()
    async with bench(limits_of_time(gate, Rate(1, hour_ns, 1)), clock=FakeClock()) as made:
        await made.start(calls_of("wait", 3))
        made.engine.swap([limits_of_time(gate, Rate(1, second_ns, 1))], {})
        await made.clock.advance(1)
        assert gate.started == [0, 1]
        await made.clock.advance(1)
        assert gate.started == [0, 1, 2]
        gate.open(0, 1, 2)
        await settle()
        made.assert_idle()


def limits_of_time(gate: Gate, rate: Rate) -> BoundTool:
    """A tool that may start at a rate, and whose calls wait for it as long as need be."""
    return bound("wait", gate, rate=rate, queue_timeout_s=10_000.0)
