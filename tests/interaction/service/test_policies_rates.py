"""Rates over a real channel: waits that are told, and refusals that say when to come again."""

from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.interaction.conftest import StartServing
from tests.support.batches import NOT_STARTED, call, check_failure, detail, reasons
from tests.support.serving import Serving
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2

TOOLS = Path(__file__).parent / "policy_tools.py"
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture
async def sidecar(start_sidecar: StartServing) -> Serving:
    serving: Serving = await start_sidecar(tools=str(TOOLS))
    return serving


async def test_who_would_come_too_late_is_told_when_to_come(sidecar: Serving) -> None:
    first, second = await sidecar.run(call("hourly"), call("hourly"))
    assert first.content == "done"
    check_failure(second, "RATE_LIMITED", EXHAUSTED, NOT_STARTED)
    assert second.attempts == 0
    again = detail(second.status, error_details_pb2.RetryInfo)
    assert again is not None
    assert 3_000 < again.retry_delay.seconds <= 3_600


async def test_who_is_in_time_waits(sidecar: Serving) -> None:
    results = await sidecar.run(*[call("brisk")] * 8)
    assert reasons(results) == ["OK"] * 8
    ready_ns = min(result.timing.ready_offset_ns for result in results)
    # Five may start at once; what comes later comes 200 ms apart.
    assert max(result.timing.started_offset_ns for result in results) - ready_ns >= 600_000_000
    for result in results:
        timing = result.timing
        assert timing.blocked_on_rate_ns <= timing.started_offset_ns - timing.ready_offset_ns


async def test_a_wait_for_a_rate_is_told_and_can_be_cancelled(sidecar: Serving) -> None:
    await sidecar.run(call("hourly_patient"))
    turn = await Turn(sidecar.channel, timeout=7_200).start()
    await turn.call(0, call("hourly_patient"))
    queued = (await turn.until("queued", 0)).queued
    assert queued.cause == execution_pb2.BLOCK_CAUSE_RATE
    await turn.cancel(0)
    cancelled = (await turn.until("result", 0)).result.result
    check_failure(cancelled, "CANCELLED", grpc.StatusCode.CANCELLED, NOT_STARTED)
    assert cancelled.timing.blocked_on_rate_ns > 0
    await turn.seal(1)
    await turn.finish()
    assert sidecar.statistics.rates["hourly_patient rate"].waiting == 0
