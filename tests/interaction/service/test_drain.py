"""SIGTERM: what runs is answered, what comes is refused, and the process ends with 0."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.interaction.conftest import StartProcess
from tests.support.batches import (
    NOT_STARTED,
    UNKNOWN,
    batch,
    call,
    check_failure,
    detail,
    reason,
    reasons,
    rpc_status,
)
from tests.support.gate import WAIT_S, Gate
from tests.support.serving import stub_of
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2

Connect = Callable[[str], grpc.aio.Channel]
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVING = health_pb2.HealthCheckResponse.SERVING
CANCELLED = grpc.StatusCode.CANCELLED

LIFESPAN = """
import asyncio
from sidecall import lifespan, tool

@lifespan
async def resources():
    reader, writer = await asyncio.open_unix_connection({gate!r})
    writer.write(b"opening\\n")
    {wait}
    yield None
    writer.write(b"closing\\n")
    writer.close()

@tool
async def nothing() -> str:
    return "done"
"""


def at(gate: Gate, tool: str, name: str) -> execution_pb2.ToolCall:
    return call(tool, {"gate": gate.path, "name": name})


async def until_not_serving(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(WAIT_S):
        async for answer in health.Watch(health_pb2.HealthCheckRequest()):
            if answer.status == NOT_SERVING:
                return


async def test_a_running_batch_gets_its_results(
    start_process: StartProcess, connect: Connect, gate: Gate
) -> None:
    sidecar = start_process("unix")
    channel = connect(sidecar.address)
    running = stub_of(channel).ExecuteBatch(
        batch(
            at(gate, "hold_one", "a"),
            at(gate, "hold_one", "b"),
            call("write", {"text": "after ${ref:@2}"}),
            call("fail_usefully"),
        )
    )
    visit = await gate.arrived("a")
    sidecar.signal(SIGTERM)
    await until_not_serving(channel)
    visit.release("first")
    (await gate.arrived("b")).release("second")
    results = (await running).results
    assert reasons(results) == ["OK", "OK", "OK", "TOOL_FAILED"]
    assert [result.content for result in results[:3]] == ["first", "second", "after second"]
    assert await sidecar.ended() == 0
    assert not sidecar.socket_path.exists()


async def test_new_work_is_refused(
    start_process: StartProcess, connect: Connect, gate: Gate
) -> None:
    sidecar = start_process("tcp")
    channel = connect(sidecar.address)
    running = stub_of(channel).ExecuteBatch(batch(at(gate, "hold", "a")))
    visit = await gate.arrived("a")
    sidecar.signal(SIGTERM)
    await until_not_serving(channel)
    for refused in (
        stub_of(channel).ExecuteBatch(batch(at(gate, "hold", "b"))),
        (await Turn(channel).start()).rpc.read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await refused
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(rpc_status(caught.value)) == "DRAINING"
        assert detail(rpc_status(caught.value), error_details_pb2.RetryInfo) is not None
    health = health_pb2_grpc.HealthStub(channel)
    live = await health.Check(health_pb2.HealthCheckRequest(service="liveness"))
    assert live.status == SERVING
    visit.release()
    assert reasons((await running).results) == ["OK"]
    assert await sidecar.ended() == 0
    assert gate.names == ["a"]


async def test_tools_that_hang_do_not_outlive_the_grace(
    start_process: StartProcess, connect: Connect, gate: Gate
) -> None:
    sidecar = start_process("unix", drain_timeout="1100ms")
    channel = connect(sidecar.address)
    running = stub_of(channel).ExecuteBatch(
        batch(
            at(gate, "hold_one", "async"),
            at(gate, "hold_one", "queued"),
            at(gate, "hold_thread", "thread"),
            at(gate, "stubborn_for_long", "stubborn"),
            call("echo", {"text": "$ref:@1"}),
            call("echo", {"text": "done"}),
        )
    )
    for name in ("async", "thread", "stubborn"):
        await gate.arrived(name)
    sidecar.signal(SIGTERM)
    results = (await running).results
    for index in (0, 2, 3):
        check_failure(results[index], "DRAINING", CANCELLED, UNKNOWN)
    for index in (1, 4):
        check_failure(results[index], "DRAINING", CANCELLED, NOT_STARTED)
    assert results[5].content == "done"
    assert await sidecar.ended() == 0
    assert "queued" not in gate.names


async def test_a_second_signal_hurries(
    start_process: StartProcess, connect: Connect, gate: Gate
) -> None:
    sidecar = start_process("unix", drain_timeout="10m")
    channel = connect(sidecar.address)
    running = stub_of(channel).ExecuteBatch(
        batch(at(gate, "hold_one", "a"), at(gate, "hold_one", "b"))
    )
    visit = await gate.arrived("a")
    sidecar.signal(SIGTERM)
    await until_not_serving(channel)
    assert not running.done()
    sidecar.signal(SIGTERM)
    results = (await running).results
    check_failure(results[0], "DRAINING", CANCELLED, UNKNOWN)
    check_failure(results[1], "DRAINING", CANCELLED, NOT_STARTED)
    await visit.left()
    assert await sidecar.ended() == 0


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
async def test_an_idle_sidecar_ends_at_once(
    start_process: StartProcess, connect: Connect, number: Signals
) -> None:
    sidecar = start_process("unix", drain_timeout="10m")
    response = await stub_of(connect(sidecar.address)).ExecuteBatch(batch(call("nothing")))
    assert reasons(response.results) == ["OK"]
    sidecar.signal(number)
    assert await sidecar.ended() == 0


async def test_a_signal_during_the_start(
    start_process: StartProcess, folder: Path, gate: Gate
) -> None:
    tools = folder / "slow_tools.py"
    tools.write_text(LIFESPAN.format(gate=gate.path, wait="await reader.readline()"))
    sidecar = start_process("unix", wait=False, tools=tools)
    visit = await gate.arrived("opening")
    sidecar.signal(SIGTERM)
    await visit.left()
    assert await sidecar.ended() == 0
    assert not sidecar.socket_path.exists()


async def test_lifespans_are_closed(start_process: StartProcess, folder: Path, gate: Gate) -> None:
    tools = folder / "lifespan_tools.py"
    tools.write_text(LIFESPAN.format(gate=gate.path, wait=""))
    sidecar = start_process("unix", tools=tools)
    visit = await gate.arrived("opening")
    sidecar.signal(SIGTERM)
    assert await visit.said() == "closing"
    assert await sidecar.ended() == 0


async def test_a_turn_goes_on_while_the_sidecar_drains(
    start_process: StartProcess, connect: Connect, gate: Gate
) -> None:
    sidecar = start_process("unix", drain_timeout="10m")
    channel = connect(sidecar.address)
    turn = await Turn(channel).start()
    await turn.call(0, at(gate, "hold", "a"))
    visit = await gate.arrived("a")
    sidecar.signal(SIGTERM)
    await until_not_serving(channel)
    await turn.call(1, call("write", {"text": "late"}))
    await turn.seal(2)
    visit.release("early")
    summary = await turn.finish()
    assert (summary.ok_count, summary.sealed) == (2, True)
    assert await sidecar.ended() == 0


async def test_a_turn_that_is_never_sealed_ends_with_the_grace(
    start_process: StartProcess, connect: Connect, gate: Gate
) -> None:
    sidecar = start_process("unix", drain_timeout="1100ms")
    turn = await Turn(connect(sidecar.address)).start()
    await turn.call(0, at(gate, "hold", "a"))
    await turn.call(1, call("write", {"text": "held"}))
    await gate.arrived("a")
    sidecar.signal(SIGTERM)
    summary = await turn.finish()
    check_failure(turn.results()[0], "DRAINING", CANCELLED, UNKNOWN)
    check_failure(turn.results()[1], "DRAINING", CANCELLED, NOT_STARTED)
    assert not summary.sealed
    assert await sidecar.ended() == 0


async def test_a_stream_that_says_nothing_does_not_keep_the_sidecar(
    start_process: StartProcess, connect: Connect
) -> None:
    sidecar = start_process("unix", drain_timeout="10m")
    channel = connect(sidecar.address)
    turn = Turn(channel)
    await turn.rpc.wait_for_connection()
    assert reasons((await stub_of(channel).ExecuteBatch(batch(call("nothing")))).results) == ["OK"]
    sidecar.signal(SIGTERM)
    error = await turn.failure()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert await sidecar.ended() == 0
