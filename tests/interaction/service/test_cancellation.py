"""Clients that go away, and deadlines, in the middle of a batch."""

import asyncio

import grpc
import pytest
from tests.support.batches import UNKNOWN, batch, call, check_failure, reasons
from tests.support.gate import WAIT_S, Gate
from tests.support.serving import Serving, is_idle

from sidecall.v1 import execution_pb2


def at(gate: Gate, tool: str, name: str) -> execution_pb2.ToolCall:
    return call(tool, {"gate": gate.path, "name": name})


async def test_a_client_that_cancels(sidecar: Serving, gate: Gate) -> None:
    rpc = sidecar.begin(
        at(gate, "hold_one", "running"),
        at(gate, "hold_one", "queued"),
        call("echo", {"text": "$ref:@1"}),
    )
    visit = await gate.arrived("running")
    rpc.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rpc
    await visit.left()
    await sidecar.until(is_idle)
    assert gate.names == ["running"]


async def test_a_client_that_loses_its_connection(sidecar: Serving, gate: Gate) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(sidecar.address, options=options) as channel:
        rpc = Serving(sidecar.app, channel).begin(
            at(gate, "hold_one", "running"), at(gate, "hold_one", "queued")
        )
        visit = await gate.arrived("running")
    await visit.left()
    await sidecar.until(is_idle)
    assert rpc.done()
    assert gate.names == ["running"]


async def test_a_thread_keeps_its_permit_after_the_client_has_gone(
    sidecar: Serving, gate: Gate
) -> None:
    rpc = sidecar.begin(at(gate, "hold_thread", "running"), at(gate, "hold_thread", "queued"))
    visit = await gate.arrived("running")
    rpc.cancel()
    await sidecar.until(lambda statistics: statistics.open_batches == 0)
    assert sidecar.statistics.limiters["hold_thread"].active == 1
    assert sidecar.statistics.limiters["sidecar"].active == 0
    other = sidecar.begin(at(gate, "hold_thread", "other"))
    await sidecar.until(lambda statistics: statistics.queued == 1)
    assert gate.names == ["running"]
    visit.release()
    (await gate.arrived("other")).release()
    assert reasons((await other).results) == ["OK"]
    assert gate.names == ["running", "other"]


async def test_a_thread_that_looks_at_its_context_ends(sidecar: Serving, gate: Gate) -> None:
    rpc = sidecar.begin(at(gate, "hold_thread_politely", "running"))
    visit = await gate.arrived("running")
    rpc.cancel()
    await visit.left()
    await sidecar.until(is_idle)


async def test_a_generator_is_closed(sidecar: Serving, gate: Gate) -> None:
    rpc = sidecar.begin(call("pieces", {"count": 4, "gate": gate.path}))
    visit = await gate.arrived("pieces")
    rpc.cancel()
    await visit.left()
    await sidecar.until(is_idle)


async def test_a_tool_that_swallows_cancellation_does_not_keep_the_batch(
    sidecar: Serving, gate: Gate
) -> None:
    rpc = sidecar.begin(at(gate, "stubborn", "running"))
    visit = await gate.arrived("running")
    rpc.cancel()
    assert await visit.said() == "cancelled"
    await sidecar.until(lambda statistics: statistics.open_batches == 0)
    assert sidecar.statistics.running == 1
    visit.release()
    await sidecar.until(is_idle)


async def test_one_client_that_goes_does_not_concern_others(sidecar: Serving, gate: Gate) -> None:
    leaving = [sidecar.begin(at(gate, "hold", "leaving")) for _ in range(5)]
    staying = sidecar.begin(at(gate, "hold", "staying"))
    visits = [await gate.arrived("leaving") for _ in range(5)]
    for rpc in leaving:
        rpc.cancel()
    for visit in visits:
        await visit.left()
    (await gate.arrived("staying")).release("still here")
    assert [result.content for result in (await staying).results] == ["still here"]


async def test_many_clients_that_go_leave_nothing_behind(sidecar: Serving, gate: Gate) -> None:
    for _ in range(30):
        rpc = sidecar.begin(at(gate, "hold_one", "x"), at(gate, "hold_one", "x"))
        await gate.arrived("x")
        rpc.cancel()
    await sidecar.until(is_idle)
    assert [result.content for result in await sidecar.run(call("nothing"))] == ["done"]


async def test_a_deadline_while_a_thread_runs(sidecar: Serving, gate: Gate) -> None:
    request = batch(at(gate, "hold_thread", "running"), call("nothing"))
    request.timeout.FromMilliseconds(300)
    rpc = sidecar.stub.ExecuteBatch(request, timeout=WAIT_S)
    visit = await gate.arrived("running")
    late, quick = (await rpc).results
    check_failure(late, "BATCH_DEADLINE", grpc.StatusCode.DEADLINE_EXCEEDED, UNKNOWN)
    assert quick.content == "done"
    assert sidecar.statistics.limiters["hold_thread"].active == 1
    visit.release()
