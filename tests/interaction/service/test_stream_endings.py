"""StreamBatch: turns that end before all their calls do."""

import asyncio

import grpc
import pytest
from tests.interaction.conftest import StartServing
from tests.support.batches import (
    NOT_STARTED,
    UNKNOWN,
    call,
    check_failure,
    reason,
    rpc_status,
)
from tests.support.gate import WAIT_S, Gate
from tests.support.serving import Serving, is_idle
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2
from sidecall_server.transport import stream

CANCELLED = grpc.StatusCode.CANCELLED


async def test_cancelling_a_running_call(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold", {"gate": gate.path, "name": "a"}))
    await turn.call(1, call("echo", {"text": "$ref:@1"}))
    visit = await gate.arrived("a")
    await turn.cancel(0)
    cancelled = (await turn.until("result", 0)).result.result
    check_failure(cancelled, "CANCELLED", CANCELLED, UNKNOWN)
    await visit.left()
    await turn.call(2, call("echo", {"text": "other"}))
    await turn.cancel(0)
    await turn.seal(3)
    summary = await turn.finish()
    assert reason(turn.results()[1].status) == "DEPENDENCY_FAILED"
    assert turn.results()[2].content == "other"
    assert (summary.ok_count, summary.sealed) == (1, True)


async def test_cancelling_a_call_that_waits_for_a_permit(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold_one", {"gate": gate.path, "name": "a"}))
    visit = await gate.arrived("a")
    for index in (1, 2):
        await turn.call(index, call("hold_one", {"gate": gate.path, "name": str(index)}))
    await turn.until("queued", 2)
    await turn.cancel(1)
    cancelled = (await turn.until("result", 1)).result.result
    check_failure(cancelled, "CANCELLED", CANCELLED, NOT_STARTED)
    await turn.seal(3)
    visit.release()
    (await gate.arrived("2")).release()
    assert (await turn.finish()).ok_count == 2
    assert gate.names == ["a", "2"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (call("write", {"text": "held"}), call("echo", {"text": "$ref:@1"})),
        (call("echo", {"text": "$ref:write"}), call("echo", {"text": "$ref:@1"})),
        (call("echo", {"text": "$ref:write"}), call("write", {"text": "$ref:echo"})),
    ],
    ids=["held", "pending", "both pending"],
)
async def test_cancelling_a_call_that_waits_for_the_seal(
    sidecar: Serving, first: execution_pb2.ToolCall, second: execution_pb2.ToolCall
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, first)
    await turn.call(1, second)
    await turn.cancel(0)
    cancelled = (await turn.until("result", 0)).result.result
    check_failure(cancelled, "CANCELLED", CANCELLED, NOT_STARTED)
    await turn.call(2, call("echo", {"text": "other"}))
    await turn.seal(3)
    summary = await turn.finish()
    assert reason(turn.results()[1].status) in ("DEPENDENCY_FAILED", "REFERENCE_UNRESOLVED")
    assert turn.results()[2].content == "other"
    assert summary.call_count == 3


async def test_cancelling_a_thread(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold_thread_politely", {"gate": gate.path, "name": "a"}))
    await turn.seal(1)
    visit = await gate.arrived("a")
    await turn.cancel(0)
    await turn.finish()
    check_failure(turn.results()[0], "CANCELLED", CANCELLED, UNKNOWN)
    await visit.left()
    await sidecar.until(is_idle)


async def test_what_crosses_the_summary_means_nothing(
    sidecar: Serving, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_HALF_CLOSE_S", WAIT_S)
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("echo", {"text": "done"}))
    await turn.seal(1)
    await turn.until("result", 0)
    await sidecar.until(is_idle)
    await turn.cancel(0)
    await turn.call(1, call("hold", {"gate": gate.path, "name": "late"}))
    summary = await turn.finish()
    assert (summary.call_count, summary.ok_count, summary.sealed) == (1, 1, True)
    assert not summary.HasField("status")
    assert gate.names == []


async def test_a_client_that_never_half_closes(
    sidecar: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_HALF_CLOSE_S", 0.01)
    turn = await Turn(sidecar.channel).start()
    await turn.seal(0)
    while await asyncio.wait_for(turn.rpc.read(), WAIT_S) is not grpc.aio.EOF:
        pass
    assert await turn.rpc.code() is grpc.StatusCode.OK


async def test_a_client_that_aborts(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold_one", {"gate": gate.path, "name": "a"}))
    await turn.call(1, call("hold_one", {"gate": gate.path, "name": "b"}))
    await turn.call(2, call("write", {"text": "held"}))
    visit = await gate.arrived("a")
    turn.rpc.cancel()
    await visit.left()
    await sidecar.until(is_idle)
    assert gate.names == ["a"]


async def test_a_client_that_aborts_before_it_says_anything(sidecar: Serving) -> None:
    turn = Turn(sidecar.channel)
    await turn.rpc.wait_for_connection()
    turn.rpc.cancel()
    assert [result.content for result in await sidecar.run(call("nothing"))] == ["done"]


async def test_a_deadline_in_a_turn_that_is_not_sealed(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel, timeout=4.0).start()
    await turn.call(0, call("hold", {"gate": gate.path, "name": "a"}))
    await turn.call(1, call("write", {"text": "held"}))
    await turn.call(2, call("echo", {"text": "quick"}))
    await gate.arrived("a")
    summary = await turn.finish()
    results = turn.results()
    late = grpc.StatusCode.DEADLINE_EXCEEDED
    check_failure(results[0], "BATCH_DEADLINE", late, UNKNOWN)
    check_failure(results[1], "BATCH_DEADLINE", late, NOT_STARTED)
    assert results[2].content == "quick"
    assert not summary.sealed
    assert (summary.call_count, summary.ok_count) == (3, 1)


async def test_silent_clients_do_not_keep_others_out(start_sidecar: StartServing) -> None:
    sidecar: Serving = await start_sidecar(max_open_batches=1, stream_idle_timeout_s="50ms")
    silent = await Turn(sidecar.channel).start()
    await silent.call(0, call("write", {"text": "held"}))
    summary = await silent.finish()
    check_failure(silent.results()[0], "CANCELLED", CANCELLED, NOT_STARTED)
    assert not summary.sealed
    assert (await sidecar.run(call("nothing")))[0].content == "done"


async def test_a_turn_without_a_first_message(start_sidecar: StartServing) -> None:
    sidecar: Serving = await start_sidecar(stream_start_timeout_s="50ms")
    error = await Turn(sidecar.channel).failure()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(rpc_status(error)) == "REQUEST_INVALID"


async def test_the_time_of_a_turn_counts_although_nothing_comes(sidecar: Serving) -> None:
    turn = Turn(sidecar.channel)
    await turn.start(timeout={"nanos": 100_000_000})
    summary = await turn.finish()
    assert (summary.call_count, summary.sealed) == (0, False)


async def test_calls_that_come_after_the_deadline_are_answered_or_the_turn_is_over(
    sidecar: Serving, gate: Gate
) -> None:
    turn = await Turn(sidecar.channel).start(timeout={"nanos": 200_000_000})
    await turn.call(0, call("hold", {"gate": gate.path, "name": "a"}))
    await turn.until("result", 0)
    summary = await turn.finish()
    assert summary.call_count == len(turn.results())


async def test_a_client_that_loses_its_connection(sidecar: Serving, gate: Gate) -> None:
    async with grpc.aio.insecure_channel(
        sidecar.address, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        turn = await Turn(channel).start()
        await turn.call(0, call("hold_one", {"gate": gate.path, "name": "a"}))
        await turn.call(1, call("hold_one", {"gate": gate.path, "name": "b"}))
        visit = await gate.arrived("a")
    await visit.left()
    await sidecar.until(is_idle)
    assert gate.names == ["a"]


async def test_a_drain_in_the_middle_of_a_turn(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold", {"gate": gate.path, "name": "a"}))
    await turn.call(1, call("write", {"text": "held"}))
    await gate.arrived("a")
    sidecar.app.engine.refuse_batches()
    sidecar.app.engine.cancel_open()
    await turn.finish()
    results = turn.results()
    check_failure(results[0], "DRAINING", CANCELLED, UNKNOWN)
    check_failure(results[1], "DRAINING", CANCELLED, NOT_STARTED)
