"""What a batch tells about how long it took, and why."""

import pytest
from tests.support.batches import batch, call
from tests.support.gate import WAIT_S, Gate
from tests.support.serving import Serving, start_serving
from tests.support.turns import Turn

from sidecall import tool
from sidecall.v1 import execution_pb2
from sidecall.v1.execution_pb2 import BlockCause, Schedule, ToolResult

Path = list[tuple[int, str]]


def at(gate: Gate, name: str, held: str) -> execution_pb2.ToolCall:
    return call(name, {"gate": gate.path, "name": held})


def path_of(schedule: Schedule) -> Path:
    return [
        (step.index, BlockCause.Name(step.cause).removeprefix("BLOCK_CAUSE_"))
        for step in schedule.critical_path
    ]


def check(schedule: Schedule, results: dict[int, ToolResult]) -> None:
    """What holds for the schedule of every batch in which no call failed."""
    first_ns = min(result.timing.received_unix_nanos for result in results.values())

    def at_ns(index: int, offset_ns: int) -> int:
        return results[index].timing.received_unix_nanos - first_ns + offset_ns

    timings = {index: result.timing for index, result in results.items()}
    ends = {index: at_ns(index, timing.finished_offset_ns) for index, timing in timings.items()}
    ran = [t.finished_offset_ns - t.started_offset_ns for t in timings.values()]
    assert schedule.sequential_ns == sum(ran)
    assert schedule.speed_up == pytest.approx(schedule.sequential_ns / schedule.duration_ns)
    spent = sum(step.waiting_ns + step.running_ns for step in schedule.critical_path)
    assert spent == schedule.duration_ns >= max(ends.values())
    assert all(step.waiting_ns >= 0 for step in schedule.critical_path)
    assert schedule.critical_path[-1].index == max(ends, key=lambda index: ends[index])


async def test_references_and_limits(sidecar: Serving, gate: Gate) -> None:
    calls = (
        at(gate, "hold_one", "first"),
        at(gate, "hold_one", "second"),
        at(gate, "hold", "beside"),
        call("echo", {"text": "$ref:@2"}),
    )
    rpc = sidecar.begin(*calls)
    for name in ("beside", "first", "second"):
        (await gate.arrived(name)).release()
    response = await rpc
    check(response.schedule, dict(enumerate(response.results)))
    assert path_of(response.schedule) == [
        (0, "UNSPECIFIED"),
        (1, "TOOL_LIMIT"),
        (3, "REFERENCE"),
    ]


async def test_calls_in_a_row(sidecar: Serving) -> None:
    calls = [call("echo", {"text": text}) for text in "abc"]
    mode = execution_pb2.EXECUTION_MODE_SEQUENTIAL
    response = await sidecar.stub.ExecuteBatch(batch(*calls, mode=mode), timeout=WAIT_S)
    check(response.schedule, dict(enumerate(response.results)))
    assert path_of(response.schedule) == [(0, "UNSPECIFIED"), (1, "ORDER"), (2, "ORDER")]
    assert response.schedule.speed_up < 1


async def test_the_limit_of_a_batch(sidecar: Serving) -> None:
    calls = [call(name, {"text": "x"}) for name in ("echo", "write", "echo")]
    response = await sidecar.stub.ExecuteBatch(batch(*calls, max_concurrency=1), timeout=WAIT_S)
    check(response.schedule, dict(enumerate(response.results)))
    causes = [cause for _, cause in path_of(response.schedule)]
    assert causes[0] == "UNSPECIFIED"
    assert "BATCH_LIMIT" in causes


async def test_lanes() -> None:
    @tool(lane="account:{account}", effects="non_idempotent")
    async def transfer(account: str) -> str:
        return account

    settings = {"listen": "127.0.0.1:0"}
    async with start_serving(settings, [transfer]) as serving:
        calls = [call("transfer", {"account": "a"}) for _ in range(3)]
        response = await serving.stub.ExecuteBatch(batch(*calls), timeout=WAIT_S)
    check(response.schedule, dict(enumerate(response.results)))
    assert path_of(response.schedule) == [(0, "UNSPECIFIED"), (1, "LANE"), (2, "LANE")]


async def test_a_batch_in_which_nothing_ran(sidecar: Serving) -> None:
    response = await sidecar.stub.ExecuteBatch(batch(call("nobody")), timeout=WAIT_S)
    schedule = response.schedule
    assert (schedule.sequential_ns, schedule.speed_up) == (0, 0)
    assert path_of(schedule) == [(0, "UNSPECIFIED")]
    empty = await sidecar.stub.ExecuteBatch(batch(), timeout=WAIT_S)
    assert empty.schedule == Schedule()


async def test_a_turn_that_is_streamed(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, at(gate, "hold", "early"))
    await turn.call(1, call("write", {"text": "x"}))
    (await gate.arrived("early")).release()
    await turn.until("result", 0)
    await turn.call(2, call("echo", {"text": "$ref:@2"}))
    await turn.seal(3)
    summary = await turn.finish()
    check(summary.schedule, turn.results())
    assert summary.schedule.duration_ns == summary.duration_ns
    assert path_of(summary.schedule) == [(1, "UNSPECIFIED"), (2, "REFERENCE")]
