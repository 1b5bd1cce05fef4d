"""Identical calls and cached results, over real channels."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.interaction.conftest import StartServing
from tests.support.batches import COMPLETED, batch, call, reasons
from tests.support.gate import WAIT_S, Gate
from tests.support.serving import Serving
from tests.support.turns import Turn

from sidecall.v1.execution_pb2 import BlockCause, ToolResult

SHARED_TOOLS = Path(__file__).parent / "shared_tools.py"


@pytest.fixture
async def shared_sidecar(start_sidecar: StartServing) -> Serving:
    serving: Serving = await start_sidecar(tools=str(SHARED_TOOLS))
    return serving


async def sent(sidecar: Serving, token: str, *calls: Any, **options: Any) -> list[ToolResult]:
    """What a caller with a token gets."""
    metadata = (("authorization", f"Bearer {token}"),)
    request = batch(*calls, **options)
    response = await sidecar.stub.ExecuteBatch(request, timeout=WAIT_S, metadata=metadata)
    return list(response.results)


async def test_identical_calls_share_one_run(shared_sidecar: Serving, gate: Gate) -> None:
    same = {"gate": gate.path, "name": "a"}
    first = shared_sidecar.begin(
        call("hold_shared", same), call("hold_shared", {**same, "unit": "C"})
    )
    visit = await gate.arrived("a")
    second = shared_sidecar.begin(
        call("hold_shared", same), call("hold_shared", {**same, "name": "b"})
    )
    other = await gate.arrived("b")
    visit.release("one")
    other.release("two")

    results = [*(await first).results, *(await second).results]
    assert [result.content for result in results] == ["one", "one", "one", "two"]
    assert [result.coalesced for result in results] == [False, True, True, False]
    assert [result.attempts for result in results] == [1, 0, 0, 1]
    assert {result.execution_state for result in results} == {COMPLETED}
    assert results[1].timing.blocked_on_same_call_ns > 0
    assert results[0].timing.blocked_on_same_call_ns == 0
    assert gate.names == ["a", "b"]


async def test_the_run_goes_on_when_its_first_client_leaves(
    shared_sidecar: Serving, gate: Gate
) -> None:
    same = call("hold_shared", {"gate": gate.path, "name": "a"})
    first = shared_sidecar.begin(same)
    visit = await gate.arrived("a")
    second = shared_sidecar.begin(same, same)
    await shared_sidecar.until(lambda s: s.open_batches == 2)
    first.cancel()
    await shared_sidecar.until(lambda s: s.open_batches == 1)
    visit.release("for you")

    results = (await second).results
    assert [result.content for result in results] == ["for you"] * 2
    assert gate.names == ["a"]


async def test_the_run_ends_when_its_last_client_leaves(
    shared_sidecar: Serving, gate: Gate
) -> None:
    same = call("hold_shared", {"gate": gate.path, "name": "a"})
    first = shared_sidecar.begin(same)
    visit = await gate.arrived("a")
    second = shared_sidecar.begin(same)
    await shared_sidecar.until(lambda s: s.open_batches == 2)
    first.cancel()
    await shared_sidecar.until(lambda s: s.open_batches == 1)
    second.cancel()
    await visit.left()
    await shared_sidecar.until(lambda s: s.running == 0 and s.shared_runs == 0)


async def test_callers_share_with_others_only_where_that_is_said(shared_sidecar: Serving) -> None:
    mine, all_of_us = call("count", {"name": "a"}), call("count_for_all", {"name": "a"})
    first = await sent(shared_sidecar, "ann", mine, all_of_us)
    again = await sent(shared_sidecar, "ann", mine, all_of_us)
    other = await sent(shared_sidecar, "bob", mine, all_of_us)
    tenant = await sent(shared_sidecar, "bob", all_of_us, context={"tenant": "x"})

    assert [r.content for r in again] == [r.content for r in first]
    assert [r.coalesced for r in again] == [True, True]
    assert again[1].parts == first[1].parts
    assert [r.coalesced for r in other] == [False, True]
    assert other[0].content != first[0].content
    assert (tenant[0].coalesced, tenant[0].content == first[1].content) == (False, False)


async def test_a_shared_run_in_a_process(shared_sidecar: Serving) -> None:
    results = await shared_sidecar.run(*[call("count_in_process", {"name": "a"})] * 5)

    assert reasons(results) == ["OK"] * 5
    assert {result.content for result in results} == {"1"}
    assert sum(result.coalesced for result in results) == 4


async def test_a_streamed_call_joins_early_and_says_what_it_waits_for(
    shared_sidecar: Serving, gate: Gate
) -> None:
    same = call("hold_shared", {"gate": gate.path, "name": "a"})
    first = shared_sidecar.begin(same)
    visit = await gate.arrived("a")
    turn = await Turn(shared_sidecar.channel).start()
    await turn.call(0, same)
    await turn.call(1, call("note", {"text": "held"}))
    queued = (await turn.until("queued", 0)).queued
    assert queued.cause == BlockCause.BLOCK_CAUSE_SAME_CALL
    visit.release("one")
    result = (await turn.until("result", 0)).result.result
    assert (result.content, result.coalesced) == ("one", True)
    await turn.close()
    summary = await turn.finish()

    assert (summary.sealed, summary.ok_count) == (False, 1)
    assert reasons([turn.results()[1]]) == ["CANCELLED"]
    assert (await first).results[0].content == "one"


async def test_references_read_cached_results(shared_sidecar: Serving) -> None:
    count = call("count_for_all", {"name": "b"}, id="n")
    (first,) = await shared_sidecar.run(count)
    results = await shared_sidecar.run(count, call("note", {"text": "<${ref:n}>"}))

    assert results[0].coalesced
    assert results[1].content.startswith(f"<{first.content}>")
    assert json.loads(first.content.split("\n")[0]) >= 1
