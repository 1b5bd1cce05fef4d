"""What is the sidecar's own fault, or its surroundings': said with an id, never with a text."""

from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.interaction.conftest import StartServing
from tests.support.batches import (
    NOT_STARTED,
    UNKNOWN,
    batch,
    call,
    check_failure,
    detail,
    reason,
    rpc_status,
)
from tests.support.serving import Serving
from tests.support.turns import Turn

from sidecall.v1 import tool_service_pb2
from sidecall_server.core.call import Call
from sidecall_server.core.outcome import Outcome, Reason
from sidecall_server.core.rejection import RejectionReason

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
    monkeypatch.setattr(sidecar.app.engine, "registry", None)
    await turn.call(0, call("write", {"text": "a"}))
    error = await turn.failure()
    monkeypatch.undo()
    assert error.code() is grpc.StatusCode.INTERNAL
    assert reason(rpc_status(error)) == "INTERNAL"


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
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert f'"{name}"' in tests
