"""Responses with large results are written in slices."""

import asyncio

import pytest
from tests.support.clock import FakeClock
from tests.support.engines import bench, bound, calls_of

from sidecall_server.core.call import Call
from sidecall_server.engine.slices import Slices
from sidecall_server.transport.results import batch_response

SIZES = [0, 1, 90, 126, 127, 128, 300, 16_300, 16_390, 70_000]


class Pauses(Slices):
    """Counts how often others may have the event loop.

    Attributes:
        count: How often so far.
    """

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop(), FakeClock())
        self.count = 0

    async def breathe(self) -> None:
        self.count += 1


async def large(call: Call) -> str:
    return "x" * 100_000


async def sized(call: Call) -> str:
    return "x" * SIZES[call.index]


async def test_large_results_let_others_run_in_between() -> None:
    async with bench(bound("large", large)) as b:
        calls, pauses = calls_of("large", 60), Pauses()
        turn = await b.start(calls, max_response_bytes=1 << 30)
        response = await batch_response(turn.task.result(), calls, pauses)

        assert pauses.count >= response.ByteSize() // 400_000


@pytest.mark.parametrize("spare_bytes", [0, -1])
async def test_results_are_cut_only_where_they_do_not_fit(spare_bytes: int) -> None:
    async with bench(bound("sized", sized)) as b:
        calls = calls_of("sized", len(SIZES))
        turn = await b.start(calls, max_response_bytes=1 << 30)
        whole = await batch_response(turn.task.result(), calls, Pauses())
        again = await b.start(calls, max_response_bytes=whole.ByteSize() + spare_bytes)
        response = await batch_response(again.task.result(), calls, Pauses())

        assert any(result.truncated for result in response.results) == (spare_bytes < 0)
