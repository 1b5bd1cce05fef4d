"""Lanes over a real channel: one at a time for each key, in order, across batches."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.interaction.conftest import StartServing
from tests.support.batches import COMPLETED, NOT_STARTED, call, check_failure, reasons
from tests.support.gate import Gate
from tests.support.serving import Serving
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2

TOOLS = Path(__file__).parent / "policy_tools.py"


@pytest.fixture
async def sidecar(start_sidecar: StartServing) -> Serving:
    serving: Serving = await start_sidecar(tools=str(TOOLS))
    return serving


def book(gate: Gate, name: str, account: str, **fields: Any) -> execution_pb2.ToolCall:
    """A call that goes to the gate for an account."""
    return call("book", {"gate": gate.path, "name": name, "account": account}, **fields)


async def test_one_account_at_a_time_within_and_across_batches(
    sidecar: Serving, gate: Gate
) -> None:
    first = sidecar.begin(book(gate, "a1", "1"), book(gate, "b1", "2"), book(gate, "a2", "1"))
    visit, other = await gate.arrived("a1"), await gate.arrived("b1")
    second = sidecar.begin(book(gate, "a3", "1"))
    await sidecar.until(lambda statistics: statistics.queued == 1)
    other.release()
    visit.release()
    (await gate.arrived("a3")).release()
    (await gate.arrived("a2")).release()
    results = list((await first).results)
    late = (await second).results[0]
    assert reasons([*results, late]) == ["OK"] * 4
    assert gate.names.index("a1") < gate.names.index("a3") < gate.names.index("a2")
    assert [r.timing.blocked_on_lane_ns > 0 for r in [*results, late]] == [False, False, True, True]
    assert sidecar.statistics.lanes == 0


async def test_an_account_that_another_call_finds_is_waited_for(
    sidecar: Serving, gate: Gate
) -> None:
    running = sidecar.begin(
        call("account_of", {"name": "Bob"}),
        book(gate, "first", "$ref:@1"),
        book(gate, "second", "2"),
    )
    visit = await gate.arrived("first")
    assert gate.names == ["first"]
    visit.release()
    (await gate.arrived("second")).release()
    assert reasons((await running).results) == ["OK"] * 3


async def test_a_failed_booking_skips_the_rest_of_its_account(sidecar: Serving) -> None:
    amounts = [("1", 5), ("1", -1), ("2", 7), ("1", 6)]
    results = await sidecar.run(
        *[call("book_all", {"account": account, "amount": n}) for account, n in amounts]
    )
    assert [results[0].content, results[2].content] == ["5", "7"]
    check_failure(results[1], "TOOL_FAILED", grpc.StatusCode.OUT_OF_RANGE, COMPLETED)
    check_failure(results[3], "STOPPED", grpc.StatusCode.CANCELLED, NOT_STARTED)
    assert "@2" in results[3].content


async def test_a_stream_tells_who_waits_for_a_lane(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    for index, name in enumerate(("a", "b")):
        await turn.call(index, book(gate, name, "1"))
    await turn.seal(2)
    (await gate.arrived("a")).release()
    (await gate.arrived("b")).release()
    assert (await turn.finish()).ok_count == 2
    assert gate.names == ["a", "b"]
    queued = [event.queued for event in turn.events if event.WhichOneof("event") == "queued"]
    causes = [item.cause for item in queued if item.index == 1]
    assert causes[:2] == [execution_pb2.BLOCK_CAUSE_SEAL, execution_pb2.BLOCK_CAUSE_LANE]
    assert turn.results()[1].timing.blocked_on_lane_ns > 0


async def test_a_key_that_nobody_can_know_waits_for_all(sidecar: Serving) -> None:
    bad = execution_pb2.ToolCall(name="book_all", arguments="no JSON")
    good = call("book_all", json.dumps({"account": "1", "amount": 1}))
    results = await sidecar.run(good, bad, good)
    assert reasons(results) == ["OK", "ARGUMENTS_INVALID", "STOPPED"]
