"""Tools in worker processes: what dies costs only its own call."""

import asyncio
import contextlib
from signal import SIGKILL, SIGTERM

import grpc
import psutil
import pytest
from tests.interaction.conftest import PROCESS_TOOLS, TOOLS, StartProcess, StartServing
from tests.support.batches import (
    COMPLETED,
    NOT_STARTED,
    UNKNOWN,
    batch,
    call,
    check_failure,
    reasons,
)
from tests.support.gate import WAIT_S, Gate
from tests.support.serving import Serving, is_idle, stub_of
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2

BOTH = f"{TOOLS},{PROCESS_TOOLS}"


@pytest.fixture
async def processes(start_sidecar: StartServing) -> Serving:
    """A sidecar in this process that has worker processes."""
    serving: Serving = await start_sidecar(tools=BOTH)
    return serving


def at(gate: Gate, tool: str, name: str) -> execution_pb2.ToolCall:
    return call(tool, {"gate": gate.path, "name": name})


@pytest.mark.parametrize(
    ("crash", "said"), [("process_exit", "7"), ("process_segfault", "SIGSEGV")]
)
async def test_a_crash_costs_only_its_own_call(
    processes: Serving, gate: Gate, crash: str, said: str
) -> None:
    running = processes.begin(
        at(gate, "process_hold", "neighbour"), call(crash), call("echo", {"text": "$ref:@2"})
    )
    visit = await gate.arrived("neighbour")
    visit.release("alive")
    neighbour, crashed, dependant = (await running).results
    assert neighbour.content == "alive"
    check_failure(crashed, "TOOL_CRASHED", grpc.StatusCode.INTERNAL, UNKNOWN)
    assert said in crashed.content
    assert crashed.attempts == 1
    check_failure(dependant, "DEPENDENCY_FAILED", grpc.StatusCode.FAILED_PRECONDITION, NOT_STARTED)
    again = await processes.run(*[call("process_echo", {"text": str(n)}) for n in range(10)])
    assert [result.content for result in again] == [str(n) for n in range(10)]


async def test_many_crashes_and_the_pool_recovers(processes: Serving) -> None:
    calls = [
        call("process_exit", {"code": 3}) if n % 3 == 0 else call("process_echo", {"text": str(n)})
        for n in range(12)
    ]
    results = await processes.run(*calls)
    for n, result in enumerate(results):
        if n % 3 == 0:
            check_failure(result, "TOOL_CRASHED", grpc.StatusCode.INTERNAL, UNKNOWN)
        else:
            assert result.content == str(n)


async def test_an_attempt_that_takes_too_long_is_killed(processes: Serving, gate: Gate) -> None:
    slow, quick = await processes.run(at(gate, "process_hold_briefly", "a"), call("nothing"))
    check_failure(slow, "TOOL_TIMEOUT", grpc.StatusCode.DEADLINE_EXCEEDED, UNKNOWN)
    assert quick.content == "done"
    await (await gate.arrived("a")).left()
    await processes.until(is_idle)
    (again,) = await processes.run(call("process_echo", {"text": "again"}))
    assert again.content == "again"


async def test_a_client_that_cancels_has_its_process_killed(processes: Serving, gate: Gate) -> None:
    rpc = processes.begin(at(gate, "process_hold", "a"))
    visit = await gate.arrived("a")
    rpc.cancel()
    await visit.left()
    await processes.until(is_idle)
    (again,) = await processes.run(call("process_echo", {"text": "again"}))
    assert again.content == "again"


async def test_a_tool_that_raises(processes: Serving) -> None:
    (result,) = await processes.run(call("process_fail"))
    check_failure(result, "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)
    assert "secret" not in str(result)


async def test_values_from_a_process(processes: Serving) -> None:
    none, thing, raw, big = await processes.run(
        call("process_odd", {"kind": "none"}),
        call("process_odd", {"kind": "object"}),
        call("process_odd", {"kind": "raw_bytes"}),
        call("process_echo", {"text": "x" * 3_000_000}),
    )
    assert none.content == "null"
    for result in (thing, raw):
        check_failure(result, "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)
    assert len(big.content) == 3_000_000


async def test_arguments_that_only_the_tool_refuses(processes: Serving) -> None:
    (result,) = await processes.run(call("process_echo", {"text": 7}))
    check_failure(result, "ARGUMENTS_INVALID", grpc.StatusCode.INVALID_ARGUMENT, NOT_STARTED)


async def test_progress_and_output_arrive_in_order_before_the_result(processes: Serving) -> None:
    turn = await Turn(processes.channel).start()
    await turn.call(0, call("process_report", {"steps": 20}))
    await turn.seal(1)
    await turn.finish()
    kinds = [kind for kind in turn.kinds(0) if kind != "queued"]
    assert kinds == ["started", *["progress", "partial_output"] * 20, "result"]


async def test_no_more_processes_than_allowed_run(start_sidecar: StartServing, gate: Gate) -> None:
    sidecar: Serving = await start_sidecar(tools=str(PROCESS_TOOLS), max_processes=2)
    running = sidecar.begin(*[at(gate, "process_hold", "x") for _ in range(5)])
    for done in range(5):
        visit = await gate.arrived("x")
        assert len(gate.names) <= done + 2
        visit.release()
    response = await running
    assert reasons(response.results) == ["OK"] * 5
    assert sum(result.timing.blocked_on_group_limit_ns > 0 for result in response.results) >= 3


async def test_a_drain_kills_processes_that_hang(start_process: StartProcess, gate: Gate) -> None:
    sidecar = start_process("unix", tools=BOTH, drain_timeout="1100ms")
    children = psutil.Process(sidecar.process.pid).children(recursive=True)
    async with grpc.aio.insecure_channel(sidecar.address) as channel:
        running = stub_of(channel).ExecuteBatch(batch(at(gate, "process_hold", "a")))
        visit = await gate.arrived("a")
        sidecar.signal(SIGTERM)
        (result,) = (await running).results
    check_failure(result, "DRAINING", grpc.StatusCode.CANCELLED, UNKNOWN)
    await visit.left()
    assert await sidecar.ended() == 0
    await until_gone(children)


async def test_processes_end_with_a_sidecar_that_is_killed(
    start_process: StartProcess, gate: Gate
) -> None:
    sidecar = start_process("unix", tools=BOTH)
    async with grpc.aio.insecure_channel(sidecar.address) as channel:
        running = stub_of(channel).ExecuteBatch(batch(at(gate, "process_hold", "a")))
        visit = await gate.arrived("a")
        children = psutil.Process(sidecar.process.pid).children(recursive=True)
        assert children
        sidecar.signal(SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await visit.left()
    assert await sidecar.ended() == -SIGKILL
    await until_gone(children)


async def until_gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(WAIT_S):
        while any(map(is_alive, processes)):  # noqa: ASYNC110  nobody tells of another's child
            await asyncio.sleep(0.01)


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
