"""A batch ends so long before its client gives up that all its results arrive."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import Bench, bench, bound, echo, hang

from sidecall.v1 import execution_pb2, tool_service_pb2
from sidecall_server.engine.answering import CALL_NS
from sidecall_server.transport.batch import serve_batch
from sidecall_server.transport.stream import serve_stream

Request = tool_service_pb2.StreamBatchRequest
Response = tool_service_pb2.ExecuteBatchResponse


class _Peer:
    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        return self._timeout_s

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()


def _batch(b: Bench, count: int, timeout_s: float) -> Coroutine[Any, Any, Response]:
    request = tool_service_pb2.ExecuteBatchRequest()
    for _ in range(count):
        request.calls.add(name="hang")
    return serve_batch(b.engine, request, _Peer(timeout_s))


async def _until_taken_in(b: Bench, count: int) -> None:
    for _ in range(10_000):
        statistics = b.engine.statistics()
        if statistics.queued + statistics.running == count:
            return
        await settle()
    raise AssertionError("the calls were not taken in")


async def _answered_after_s(b: Bench, answer: "asyncio.Task[Any]", until_s: float) -> float:
    """When an answer comes, in steps of a millisecond of the fake clock."""
    start_ns = b.clock.now_ns()
    while not answer.done() and b.clock.now_ns() - start_ns < until_s * 1e9:
        await b.clock.advance(0.001)
        # Everything but a tool ends without time passing.
        await settle()
    return (b.clock.now_ns() - start_ns) / 1e9


def test_what_a_call_takes_is_plausible() -> None:
    assert 20_000 <= CALL_NS <= 100_000


@pytest.mark.parametrize(
    ("count", "timeout_s", "latest_s"),
    [
        pytest.param(1, 1.0, 0.951, id="a small one leaves a twentieth"),
        pytest.param(5_000, 1.0, 0.551, id="a large one leaves time for each call"),
        pytest.param(5_000, 0.3, 0.151, id="but at most half of what there is"),
    ],
)
async def test_a_batch_leaves_time_for_its_answer(
    count: int, timeout_s: float, latest_s: float
) -> None:
    async with bench(bound("hang", hang)) as b:
        answer = asyncio.create_task(_batch(b, count, timeout_s))
        await _until_taken_in(b, count)
        after_s = await _answered_after_s(b, answer, timeout_s)
        assert latest_s - 0.01 < after_s <= latest_s
        reasons = {r.status.code for r in answer.result().results}
        assert reasons == {4}, "DEADLINE_EXCEEDED"


async def test_batches_that_end_together_leave_time_for_each_other() -> None:
    async with bench(bound("hang", hang)) as b:
        answers = [asyncio.create_task(_batch(b, 100, 1.0)) for _ in range(40)]
        ends = [await _answered_after_s(b, answer, 1.0) for answer in reversed(answers)]
        first_s = 1.0 - 0.05 - 40 * 100 * CALL_NS / 1e9
        assert first_s - 0.005 < ends[0] <= first_s + 0.002
        each_s = 100 * CALL_NS / 1e9
        assert all(each_s - 0.002 < end_s < each_s + 0.002 for end_s in ends[1:])
        assert b.engine.answering.open_calls == 0


async def test_a_turn_leaves_time_once_its_calls_are_known() -> None:
    async def messages() -> AsyncIterator[Request]:
        yield Request(start=tool_service_pb2.StreamStart())
        for index in range(1_000):
            made = execution_pb2.ToolCall(name="hang")
            yield Request(call=tool_service_pb2.StreamCall(index=index, call=made))
        yield Request(seal=tool_service_pb2.StreamSeal(call_count=1_000))
        await asyncio.Event().wait()

    async def take(b: Bench) -> None:
        async for response in serve_stream(b.engine, messages(), _Peer(1.0)):
            if any(event.HasField("summary") for event in response.events):
                return

    async with bench(bound("hang", hang)) as b:
        turn = asyncio.create_task(take(b))
        await _until_taken_in(b, 1_000)
        assert await _answered_after_s(b, turn, 1.0) <= 1.0 - 0.05 - 0.04 + 0.001
        await turn
        assert b.engine.answering.open_calls == 0


async def test_nothing_is_counted_once_it_is_answered() -> None:
    async with bench(bound("echo", echo), bound("hang", hang)) as b:
        request = tool_service_pb2.ExecuteBatchRequest()
        request.calls.add(name="echo")
        await serve_batch(b.engine, request, _Peer(1.0))
        cancelled = asyncio.create_task(_batch(b, 3, 1.0))
        await settle()
        assert b.engine.answering.open_calls == 3
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert b.engine.answering.open_calls == 0
