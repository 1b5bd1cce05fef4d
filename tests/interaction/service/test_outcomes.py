"""Waiting, limits and time: the rows of the outcome table that need a clock or a queue."""

import asyncio

import grpc
from google.rpc import error_details_pb2
from tests.interaction.conftest import StartServing
from tests.support.batches import (
    COMPLETED,
    NOT_STARTED,
    UNKNOWN,
    batch,
    call,
    check_failure,
    detail,
    reason,
    reasons,
)
from tests.support.gate import Gate
from tests.support.serving import Serving, is_idle

from sidecall.v1 import execution_pb2

STOP = execution_pb2.FAILURE_POLICY_STOP
SEQUENTIAL = execution_pb2.EXECUTION_MODE_SEQUENTIAL
LATE = grpc.StatusCode.DEADLINE_EXCEEDED


def at(gate: Gate, tool: str, name: str, **fields: object) -> execution_pb2.ToolCall:
    """A call of a tool that goes to the gate."""
    return call(tool, {"gate": gate.path, "name": name}, **fields)


async def test_an_attempt_that_takes_too_long(sidecar: Serving, gate: Gate) -> None:
    slow, quick = await sidecar.run(at(gate, "hold_briefly", "a"), call("nothing"))
    check_failure(slow, "TOOL_TIMEOUT", LATE, UNKNOWN)
    assert slow.attempts == 1
    assert quick.content == "done"
    await (await gate.arrived("a")).left()


async def test_a_thread_that_takes_too_long_keeps_its_permit(sidecar: Serving, gate: Gate) -> None:
    (slow,) = await sidecar.run(at(gate, "hold_thread_briefly", "a"))
    check_failure(slow, "TOOL_TIMEOUT", LATE, UNKNOWN)
    assert sidecar.statistics.limiters["hold_thread_briefly"].active == 1
    assert sidecar.statistics.limiters["threads"].active == 1
    assert sidecar.statistics.limiters["sidecar"].active == 0
    waiting = sidecar.begin(at(gate, "hold_thread_briefly", "b"))
    await sidecar.until(lambda statistics: statistics.queued == 1)
    first = await gate.arrived("a")
    assert gate.names == ["a"]
    first.release()
    (await gate.arrived("b")).release("second")
    response = await waiting
    assert response.results[0].content == "second"
    assert response.results[0].timing.blocked_on_tool_limit_ns > 0


async def test_a_tool_that_swallows_its_cancellation(sidecar: Serving, gate: Gate) -> None:
    stubborn, quick = await sidecar.run(at(gate, "stubborn", "a"), call("nothing"))
    check_failure(stubborn, "TOOL_TIMEOUT", LATE, UNKNOWN)
    assert quick.content == "done"
    visit = await gate.arrived("a")
    assert await visit.said() == "cancelled"
    assert sidecar.statistics.limiters["stubborn"].active == 1
    visit.release()
    await sidecar.until(is_idle)


async def test_a_call_that_waits_too_long(sidecar: Serving, gate: Gate) -> None:
    running = sidecar.begin(at(gate, "hold_impatient", "a"))
    visit = await gate.arrived("a")
    (waited,) = await sidecar.run(at(gate, "hold_impatient", "b"))
    check_failure(waited, "QUEUE_TIMEOUT", LATE, NOT_STARTED)
    assert waited.timing.blocked_on_tool_limit_ns >= 90_000_000
    visit.release()
    assert reasons((await running).results) == ["OK"]
    assert gate.names == ["a"]


async def test_a_queue_that_is_full(sidecar: Serving, gate: Gate) -> None:
    running = sidecar.begin(at(gate, "hold_full", "a"))
    visit = await gate.arrived("a")
    refused, other = await sidecar.run(at(gate, "hold_full", "b"), call("nothing"))
    check_failure(refused, "QUEUE_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED, NOT_STARTED)
    retry = detail(refused.status, error_details_pb2.RetryInfo)
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() > 0
    assert other.content == "done"
    visit.release()
    await running


async def test_the_time_of_one_call(sidecar: Serving, gate: Gate) -> None:
    one = at(gate, "hold", "a")
    one.timeout.FromMilliseconds(100)
    late, dependant, quick = await sidecar.run(
        one, call("echo", {"text": "$ref:@1"}), call("nothing")
    )
    check_failure(late, "CALL_DEADLINE", LATE, UNKNOWN)
    assert reason(dependant.status) == "DEPENDENCY_FAILED"
    assert quick.content == "done"


async def test_the_time_of_one_call_counts_while_it_waits(sidecar: Serving, gate: Gate) -> None:
    running = sidecar.begin(at(gate, "hold_one", "a"))
    visit = await gate.arrived("a")
    waiting = at(gate, "hold_one", "b")
    waiting.timeout.FromMilliseconds(100)
    (late,) = await sidecar.run(waiting)
    check_failure(late, "CALL_DEADLINE", LATE, NOT_STARTED)
    visit.release()
    await running


async def test_the_time_of_the_batch(sidecar: Serving, gate: Gate) -> None:
    request = batch(
        call("echo", {"text": "quick"}),
        at(gate, "hold_one", "a"),
        at(gate, "hold_one", "b"),
        call("echo", {"text": "$ref:@2"}),
        call("fail"),
    )
    request.timeout.FromMilliseconds(300)
    results = (await sidecar.stub.ExecuteBatch(request, timeout=30)).results
    assert (results[0].content, reason(results[0].status)) == ("quick", "OK")
    check_failure(results[1], "BATCH_DEADLINE", LATE, UNKNOWN)
    check_failure(results[2], "BATCH_DEADLINE", LATE, NOT_STARTED)
    check_failure(results[3], "BATCH_DEADLINE", LATE, NOT_STARTED)
    check_failure(results[4], "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)
    assert gate.names == ["a"]


async def test_finished_results_arrive_before_the_deadline_of_the_rpc(
    sidecar: Serving, gate: Gate
) -> None:
    quick, slow = (
        await sidecar.begin(call("echo", {"text": "quick"}), at(gate, "hold", "a"), timeout=4.0)
    ).results
    assert quick.content == "quick"
    check_failure(slow, "BATCH_DEADLINE", LATE, UNKNOWN)


async def test_stop_after_a_failure(sidecar: Serving, gate: Gate) -> None:
    running = sidecar.begin(
        at(gate, "hold", "a"),
        call("fail"),
        call("write", {"text": "$ref:@1"}),
        on_failure=STOP,
    )
    visit = await gate.arrived("a")
    visit.release("finished")
    results = (await running).results
    assert results[0].content == "finished"
    check_failure(results[1], "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)
    check_failure(results[2], "STOPPED", grpc.StatusCode.CANCELLED, NOT_STARTED)


async def test_stop_counts_an_invalid_call_at_its_turn(sidecar: Serving) -> None:
    results = await sidecar.run(
        call("echo", {"text": "a"}),
        call("nobody"),
        call("echo", {"text": "b"}),
        mode=SEQUENTIAL,
        on_failure=STOP,
    )
    assert reasons(results) == ["OK", "TOOL_NOT_FOUND", "STOPPED"]


async def test_sequential_runs_one_at_a_time_in_order(sidecar: Serving, gate: Gate) -> None:
    names = ["a", "b", "c"]
    running = sidecar.begin(*[at(gate, "hold", name) for name in names], mode=SEQUENTIAL)
    for index, name in enumerate(names):
        visit = await gate.arrived(name)
        assert gate.names == names[: index + 1]
        visit.release()
    assert reasons((await running).results) == ["OK"] * 3


async def test_a_batch_limit_holds(sidecar: Serving, gate: Gate) -> None:
    running = sidecar.begin(*[at(gate, "hold", "x") for _ in range(6)], max_concurrency=2)
    for done in range(6):
        visit = await gate.arrived("x")
        assert len(gate.names) <= done + 2
        visit.release()
    assert reasons((await running).results) == ["OK"] * 6


async def test_a_tool_limit_holds_across_batches_and_clients(
    sidecar: Serving, start_sidecar: StartServing
) -> None:
    async with grpc.aio.insecure_channel(sidecar.address) as channel:
        other = type(sidecar)(sidecar.app, channel)
        batches = [
            client.begin(*[call("crowd") for _ in range(50)])
            for client in (sidecar, other)
            for _ in range(4)
        ]
        responses = await asyncio.gather(*batches)
    most = max(int(result.content) for response in responses for result in response.results)
    assert 1 <= most <= 3
    assert sidecar.statistics.limiters["crowd"].peak == 3


async def test_one_tool_leaves_half_of_the_sidecar_to_others(
    start_sidecar: StartServing, gate: Gate
) -> None:
    sidecar: Serving = await start_sidecar(max_concurrency=4)
    holding = sidecar.begin(*[at(gate, "hold", "x") for _ in range(10)])
    visits = [await gate.arrived("x") for _ in range(2)]
    assert [result.content for result in await sidecar.run(call("nothing"))] == ["done"]
    assert gate.names == ["x", "x"]
    for _ in range(8):
        visits.pop().release()
        visits.append(await gate.arrived("x"))
    for visit in visits:
        visit.release()
    await holding


async def test_a_large_batch_does_not_keep_a_small_one_waiting(
    sidecar: Serving, gate: Gate
) -> None:
    large = sidecar.begin(*[at(gate, "hold_one", "large") for _ in range(20)])
    visit = await gate.arrived("large")
    small = sidecar.begin(at(gate, "hold_one", "small"))
    await sidecar.until(lambda statistics: statistics.queued == 20)
    visit.release()
    while "small" not in gate.names:
        visit = await asyncio.wait_for(_next_visit(gate), 30)
        visit.release()
    assert gate.names.index("small") <= 2
    assert reasons((await small).results) == ["OK"]
    large.cancel()


async def _next_visit(gate: Gate):  # type: ignore[no-untyped-def]
    waits = {asyncio.ensure_future(gate.arrived(name)) for name in ("large", "small")}
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    return done.pop().result()
