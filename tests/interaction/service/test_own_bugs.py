"""What is the sidecar's own fault, or its surroundings': said with an id, never with a text."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import grpc
import pytest
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
    rpc_status,
)
from tests.support.gate import Gate
from tests.support.serving import Serving
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2, tool_service_pb2
from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.events import CallEvent
from sidecall_server.core.outcome import ExecutionState, Failure, Outcome, Reason, Success
from sidecall_server.core.rejection import RejectionReason
from sidecall_server.engine import engine
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.stream import StreamIntake
from sidecall_server.transport import batch as batch_rpc
from sidecall_server.transport import event_messages, stream

WORKERS = """
import os
from pathlib import Path
from sidecall import tool

BROKEN = Path({broken!r})
if BROKEN.exists():
    os._exit(9)

@tool(isolation="process")
def crash() -> str:
    os._exit(1)

@tool(isolation="process")
def work() -> str:
    return "worked"
"""


async def _broken(call: Call) -> Outcome:
    raise RuntimeError("secret detail")


async def test_a_handler_that_breaks_its_word(
    sidecar: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    sidecar.app.engine.registry.tools["write"].handler = _broken
    bad, good = await sidecar.run(call("write", {"text": "a"}), call("nothing"))
    check_failure(bad, "INTERNAL", grpc.StatusCode.INTERNAL, UNKNOWN)
    assert "secret" not in str(bad)
    assert good.content == "done"
    assert bad.content.split()[-1].strip(".") in caplog.text
    assert "secret detail" in caplog.text


async def test_an_rpc_that_fails(
    sidecar: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sidecar.app.engine, "registry", None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.stub.ListTools(tool_service_pb2.ListToolsRequest())
    monkeypatch.undo()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert reason(rpc_status(caught.value)) == "INTERNAL"
    assert "NoneType" not in (caught.value.details() or "")
    assert "NoneType" in caplog.text


async def test_a_turn_that_cannot_be_read_ends(
    sidecar: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.until("accepted")
    monkeypatch.setattr(StreamIntake, "_may_start_early", _raise)
    await turn.call(0, call("write", {"text": "a"}))
    summary = await turn.finish()
    assert reason(summary.status) == "INTERNAL"
    assert (summary.call_count, summary.ok_count, summary.sealed) == (1, 0, False)
    check_failure(turn.results()[0], "INTERNAL", grpc.StatusCode.INTERNAL, NOT_STARTED)


async def test_a_call_that_is_lost_while_it_is_read_has_a_result(
    sidecar: Serving, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold", {"gate": gate.path, "name": "a"}))
    visit = await gate.arrived("a")
    monkeypatch.setattr(stream, "tool_call", _raise)
    await turn.call(1, call("write", {"text": "a"}, id="lost"))
    lost = (await turn.until("result", 1)).result.result
    check_failure(lost, "INTERNAL", grpc.StatusCode.INTERNAL, NOT_STARTED)
    assert (lost.call_id, lost.name) == ("lost", "write")
    visit.release("finished")
    summary = await turn.finish()
    assert turn.results()[0].content == "finished"
    assert reason(summary.status) == "INTERNAL"


OUTCOMES: list[tuple[Outcome, execution_pb2.ExecutionState.ValueType]] = [
    (Success("\ud800"), COMPLETED),
    (Failure(Reason.TOOL_FAILED, "\ud800", ExecutionState.COMPLETED), COMPLETED),
    (
        Failure(Reason.TOOL_FAILED, "a", ExecutionState.UNKNOWN, metadata=cast("Any", {"a": 1})),
        UNKNOWN,
    ),
    (Failure(Reason.TOOL_FAILED, "a", cast("Any", "a while")), UNKNOWN),
]


@pytest.mark.parametrize(("outcome", "state"), OUTCOMES)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_outcome_that_cannot_be_told_costs_only_its_own_result(
    sidecar: Serving,
    caplog: pytest.LogCaptureFixture,
    outcome: Outcome,
    state: execution_pb2.ExecutionState.ValueType,
    streamed: bool,
) -> None:
    _end_with(sidecar, outcome)
    calls = [call("nothing"), call("write", {"text": "a"}), call("nothing")]
    if streamed:
        summary, results = await _stream(sidecar, *calls)
        assert (summary.call_count, summary.ok_count, summary.sealed) == (3, 2, True)
    else:
        results = await sidecar.run(*calls)
    assert [results[0].content, results[2].content] == ["done", "done"]
    check_failure(results[1], "INTERNAL", grpc.StatusCode.INTERNAL, state)
    assert results[1].attempts == 1
    assert results[1].content.split()[-1].strip(".") in caplog.text


@pytest.mark.parametrize("retry_after_s", [float("inf"), float("nan"), -1.0, 1e300])
async def test_a_retry_delay_that_is_none(sidecar: Serving, retry_after_s: float) -> None:
    state = ExecutionState.COMPLETED
    _end_with(sidecar, Failure(Reason.TOOL_FAILED, "no", state, retry_after_s=retry_after_s))
    (result,) = await sidecar.run(call("write", {"text": "a"}))
    check_failure(result, "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)
    assert result.content == "no"
    told = detail(result.status, error_details_pb2.RetryInfo)
    assert told is not None
    assert 0 <= told.retry_delay.seconds <= 365 * 24 * 3600


async def test_a_batch_that_cannot_be_answered(
    sidecar: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_rpc, "batch_response", _raise)
    done, unknown = await sidecar.run(call("nothing"), call("no_such_tool"))
    check_failure(done, "INTERNAL", grpc.StatusCode.INTERNAL, COMPLETED)
    check_failure(unknown, "INTERNAL", grpc.StatusCode.INTERNAL, NOT_STARTED)
    monkeypatch.setattr(sidecar.app.engine, "execute", _raise)
    (result,) = await sidecar.run(call("nothing"))
    check_failure(result, "INTERNAL", grpc.StatusCode.INTERNAL, UNKNOWN)


async def test_a_batch_that_cannot_be_taken_in(
    sidecar: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_one(batch: Batch, requests: Sequence[ToolCall], slices: object) -> None:
        batch.add([Call(0, requests[0], batch.options, None, batch.received_ns)])
        _raise()

    monkeypatch.setattr(engine, "take_in", take_one)
    for result in await sidecar.run(call("nothing"), call("nothing")):
        check_failure(result, "INTERNAL", grpc.StatusCode.INTERNAL, NOT_STARTED)


async def test_a_turn_that_cannot_be_served_is_answered(
    sidecar: Serving, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("echo", {"text": "a"}))
    await turn.until("result", 0)
    await turn.call(1, call("hold", {"gate": gate.path, "name": "a"}))
    await turn.call(2, call("write", {"text": "a"}))
    await gate.arrived("a")
    monkeypatch.setattr(event_messages, "_split", _raise_once())
    await turn.call(3, call("nothing"))
    summary = await turn.finish()
    results = turn.results()
    assert results[0].content == "a"
    check_failure(results[1], "INTERNAL", grpc.StatusCode.INTERNAL, UNKNOWN)
    check_failure(results[2], "INTERNAL", grpc.StatusCode.INTERNAL, NOT_STARTED)
    assert reason(summary.status) == "INTERNAL"
    assert (summary.call_count, summary.ok_count) == (4, 1)


def _raise(*_: object) -> NoReturn:
    raise RuntimeError("secret detail")


def _raise_once() -> Callable[[Iterable[CallEvent]], Iterable[CallEvent]]:
    split, failures = event_messages._split, iter([RuntimeError("secret detail")])

    def raise_once(events: Iterable[CallEvent]) -> Iterable[CallEvent]:
        for error in failures:
            raise error
        return split(events)

    return raise_once


def _end_with(sidecar: Serving, outcome: Outcome) -> None:
    async def handle(call: Call) -> Outcome:
        return outcome

    sidecar.app.engine.registry.tools["write"].handler = handle


async def _stream(
    sidecar: Serving, *calls: execution_pb2.ToolCall
) -> tuple[tool_service_pb2.BatchSummary, list[execution_pb2.ToolResult]]:
    turn = await Turn(sidecar.channel).start()
    for index, item in enumerate(calls):
        await turn.call(index, item)
    await turn.seal(len(calls))
    summary = await turn.finish()
    return summary, [turn.results()[index] for index in range(len(calls))]


async def test_worker_processes_that_cannot_be_started(
    start_sidecar: StartServing, folder: Path
) -> None:
    broken, tools = folder / "broken", folder / "worker_tools.py"
    tools.write_text(WORKERS.format(broken=str(broken)))
    sidecar: Serving = await start_sidecar(tools=str(tools), max_processes=1)
    assert (await sidecar.run(call("work")))[0].content == "worked"
    broken.touch()
    crashed, refused = await sidecar.run(
        call("crash"), call("work"), mode="EXECUTION_MODE_SEQUENTIAL"
    )
    check_failure(crashed, "TOOL_CRASHED", grpc.StatusCode.INTERNAL, UNKNOWN)
    check_failure(refused, "TOOL_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE, NOT_STARTED)
    assert detail(refused.status, error_details_pb2.RetryInfo) is not None
    broken.unlink()
    again = batch(call("work"))
    while True:
        (result,) = (await sidecar.stub.ExecuteBatch(again, timeout=30)).results
        if result.content == "worked":
            break
        assert reason(result.status) == "TOOL_UNAVAILABLE"


@pytest.mark.parametrize("name", [item.name for kind in (Reason, RejectionReason) for item in kind])
def test_each_reason_has_a_test(name: str) -> None:
    folders = (Path(__file__).parent, Path(__file__).parent.with_name("hosts"))
    tests = "".join(path.read_text() for folder in folders for path in folder.glob("test_*.py"))
    assert f'"{name}"' in tests
