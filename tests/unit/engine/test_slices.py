"""Short turns on the event loop."""

import asyncio

from tests.support.clock import FakeClock
from tests.support.engines import bench, bound, calls_of, reasons

from sidecall_server.core.call import Call
from sidecall_server.engine.slices import SLICE_NS, Slices


class TickingClock(FakeClock):
    """A clock on which every look costs time, as on a busy machine."""

    def __init__(self, tick_ns: int) -> None:
        super().__init__()
        self.tick_ns = tick_ns

    def now_ns(self) -> int:
        """Nanoseconds of the monotonic clock, one tick later than last time."""
        self._now_ns += self.tick_ns
        return self._now_ns


async def test_a_slice_is_used_up_after_its_time_and_anew_in_the_next_iteration() -> None:
    clock = FakeClock()
    slices = Slices(asyncio.get_running_loop(), clock)
    now_ns = clock.now_ns()

    assert not slices.used_up(now_ns)
    assert not slices.used_up(now_ns + SLICE_NS - 1)
    assert slices.used_up(now_ns + SLICE_NS)
    await asyncio.sleep(0)
    assert not slices.used_up(now_ns + SLICE_NS)


async def test_breathing_lets_others_run_only_when_the_slice_is_used_up() -> None:
    turns: list[str] = []
    clock = TickingClock(SLICE_NS // 4)
    slices = Slices(asyncio.get_running_loop(), clock)

    async def work() -> None:
        for _ in range(12):
            turns.append("work")
            await slices.breathe()

    async def other() -> None:
        for _ in range(3):
            turns.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(work(), other())

    assert turns.index("other") == 5
    assert turns[:12].count("other") >= 2


async def test_a_large_batch_of_quick_calls_lets_others_run() -> None:
    """10 000 calls whose tool never suspends: the loop must turn many times meanwhile."""
    turns = 0

    async def quick(_: Call) -> str:
        return "done"

    async with bench(bound("quick", quick), clock=TickingClock(20_000)) as b:
        turn = await b.start(calls_of("quick", 10_000))
        while not turn.done:
            turns += 1
            await asyncio.sleep(0)

        assert reasons(turn.calls()) == ["OK"] * 10_000
        # Each call looks at the clock at least once: 200 ms in slices of 2 ms.
        assert turns > 50
