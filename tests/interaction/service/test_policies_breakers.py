"""Breakers over a real channel: a tool that fails for everybody is left alone."""

from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.interaction.conftest import StartServing
from tests.support.batches import NOT_STARTED, call, check_failure, detail, reasons
from tests.support.gate import Gate
from tests.support.serving import Serving

TOOLS = Path(__file__).parent / "policy_tools.py"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
async def sidecar(start_sidecar: StartServing) -> Serving:
    serving: Serving = await start_sidecar(tools=str(TOOLS))
    return serving


async def test_a_tool_that_fails_is_not_called_for_a_while(sidecar: Serving) -> None:
    failed = await sidecar.run(call("fragile"), call("fragile"))
    assert reasons(failed) == ["TOOL_FAILED"] * 2
    (refused,) = await sidecar.run(call("fragile", {"fails": False}))
    check_failure(refused, "CIRCUIT_OPEN", UNAVAILABLE, NOT_STARTED)
    assert refused.attempts == 0
    again = detail(refused.status, error_details_pb2.RetryInfo)
    assert again is not None
    assert 3_000 < again.retry_delay.seconds <= 3_600
    assert sidecar.statistics.breakers["fragile"].refused == 1


async def test_wrong_arguments_do_not_open_it(sidecar: Serving) -> None:
    wrong = await sidecar.run(*[call("fragile", {"fails": "no"})] * 20)
    assert reasons(wrong) == ["ARGUMENTS_INVALID"] * 20
    (fine,) = await sidecar.run(call("fragile", {"fails": False}))
    assert fine.content == "fine"


async def test_who_waits_is_refused_when_it_opens(sidecar: Serving, gate: Gate) -> None:
    arguments = {"gate": gate.path, "name": "a"}
    first = sidecar.begin(call("fragile_one", arguments), call("fragile_one", arguments))
    visit = await gate.arrived("a")
    second = sidecar.begin(call("fragile_one", arguments))
    await sidecar.until(lambda statistics: statistics.queued == 2)
    visit.release("It is broken.")
    assert reasons((await first).results) == ["TOOL_FAILED", "CIRCUIT_OPEN"]
    (refused,) = (await second).results
    check_failure(refused, "CIRCUIT_OPEN", UNAVAILABLE, NOT_STARTED)
    assert refused.timing.blocked_on_tool_limit_ns > 0
    assert gate.names == ["a"]
