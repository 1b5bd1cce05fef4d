"""Retries over a real channel: attempts and their reasons stand in the result."""

from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.interaction.conftest import StartServing
from tests.support.batches import COMPLETED, call, check_failure, detail, reason
from tests.support.serving import Serving

TOOLS = Path(__file__).parent / "policy_tools.py"


@pytest.fixture
async def sidecar(start_sidecar: StartServing) -> Serving:
    serving: Serving = await start_sidecar(tools=str(TOOLS))
    return serving


async def test_a_result_tells_the_attempts_before_it(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("flaky", {"key": "two", "failures": 2, "items": [1]}))
    assert result.content == "two: attempt 3, items [1, 99]"
    assert result.attempts == 3
    assert [reason(attempt.status) for attempt in result.failed_attempts] == ["TOOL_FAILED"] * 2
    assert result.failed_attempts[0].status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    first, second = result.failed_attempts
    timing = result.timing
    times_ns = [
        timing.ready_offset_ns,
        first.started_offset_ns,
        first.finished_offset_ns,
        second.started_offset_ns,
        second.finished_offset_ns,
        timing.started_offset_ns,
        timing.finished_offset_ns,
    ]
    assert times_ns == sorted(times_ns)
    # The tool said when to come again: 10 ms, twice.
    assert timing.blocked_on_backoff_ns >= 19_000_000


async def test_the_last_failure_is_the_result(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("flaky", {"key": "many", "failures": 9, "items": []}))
    check_failure(result, "TOOL_FAILED", grpc.StatusCode.UNAVAILABLE, COMPLETED)
    assert (result.attempts, len(result.failed_attempts)) == (3, 2)
    assert detail(result.status, error_details_pb2.RetryInfo) is not None


async def test_what_may_have_had_an_effect_is_tried_once(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("flaky_write", {"key": "write"}))
    check_failure(result, "TOOL_FAILED", grpc.StatusCode.UNAVAILABLE, COMPLETED)
    assert result.content == "attempt 1"
    assert (result.attempts, len(result.failed_attempts)) == (1, 0)


async def test_an_attempt_that_takes_too_long_is_followed_by_another(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("slow_once"))
    assert result.content == "second"
    assert [reason(attempt.status) for attempt in result.failed_attempts] == ["TOOL_TIMEOUT"]
