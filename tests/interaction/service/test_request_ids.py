"""Batches that are sent again over real channels, in memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.interaction.conftest import StartServing
from tests.interaction.service.test_kill import TOOLS
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
from tests.support.serving import Serving, stub_of
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2


class Notes:
    """What the tools have written."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lines"

    def call(self, tool: str, name: str, **arguments: Any) -> execution_pb2.ToolCall:
        return call(tool, {"path": str(self.path), "name": name, **arguments}, id=name)

    def counts(self) -> Counter[str]:
        return Counter(self.path.read_text().split() if self.path.exists() else ())


@pytest.fixture
def notes(folder: Path) -> Notes:
    return Notes(folder)


@pytest.fixture
async def serving(start_sidecar: StartServing) -> Serving:
    made: Serving = await start_sidecar(tools=str(TOOLS))
    return made


@asynccontextmanager
async def connection(serving: Serving) -> AsyncIterator[Any]:
    """The service over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(serving.address, options) as channel:
        yield stub_of(channel)


async def test_a_batch_is_sent_again(serving: Serving, notes: Notes) -> None:
    calls = [notes.call("write", "a"), notes.call("fail", "b"), notes.call("read", "c")]
    request = batch(*calls, request_id="r")
    first = await serving.stub.ExecuteBatch(request, timeout=WAIT_S)
    async with connection(serving) as other:
        again = await other.ExecuteBatch(request, timeout=WAIT_S)

    assert first.request_id == again.request_id == "r"
    assert [result.replayed for result in again.results] == [True] * 3
    assert [result.attempts for result in again.results] == [1] * 3
    assert [r.content for r in again.results] == [r.content for r in first.results]
    assert reasons(again.results) == ["OK", "TOOL_FAILED", "OK"]
    assert notes.counts() == {"a": 1, "b": 1, "c": 1}


async def test_two_connections_share_one_run(serving: Serving, notes: Notes, gate: Gate) -> None:
    request = batch(
        notes.call("write", "a", gate=gate.path),
        notes.call("write", "b", after="$ref:a"),
        request_id="r",
    )
    async with connection(serving) as other:
        rpcs = [stub.ExecuteBatch(request, timeout=WAIT_S) for stub in (serving.stub, other)]
        visit = await gate.arrived("a")
        await serving.until(lambda statistics: statistics.open_batches == 2)
        visit.release()
        responses = [await rpc for rpc in rpcs]

    for response in responses:
        assert [result.content for result in response.results] == ["did a", "did b"]
    assert gate.names == ["a"]
    assert notes.counts() == {"a": 1, "b": 1}


async def test_a_client_that_goes_and_comes_back(
    serving: Serving, notes: Notes, gate: Gate
) -> None:
    request = batch(
        notes.call("write", "a", gate=gate.path),
        notes.call("write", "b", after="$ref:a"),
        request_id="r",
    )
    rpc = serving.stub.ExecuteBatch(request, timeout=WAIT_S)
    visit = await gate.arrived("a")
    rpc.cancel()
    await serving.until(lambda statistics: statistics.open_batches == 0)
    assert serving.statistics.running == 1
    async with connection(serving) as other:
        again = other.ExecuteBatch(request, timeout=WAIT_S)
        await serving.until(lambda statistics: statistics.open_batches == 1)
        visit.release()
        results = list((await again).results)

    assert [result.content for result in results] == ["did a", "did b"]
    assert [result.replayed for result in results] == [True, False]
    assert notes.counts() == {"a": 1, "b": 1}


async def test_a_deadline_and_a_resend(serving: Serving, notes: Notes, gate: Gate) -> None:
    request = batch(
        notes.call("write", "a", gate=gate.path),
        notes.call("write", "b", after="$ref:a"),
        request_id="r",
    )
    request.timeout.FromMilliseconds(200)
    late = (await serving.stub.ExecuteBatch(request, timeout=WAIT_S)).results
    (await gate.arrived("a")).release()
    request.ClearField("timeout")
    again = (await serving.stub.ExecuteBatch(request, timeout=WAIT_S)).results

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    check_failure(late[0], "BATCH_DEADLINE", code, UNKNOWN)
    check_failure(late[1], "BATCH_DEADLINE", code, NOT_STARTED)
    check_failure(again[0], "OUTCOME_UNKNOWN", grpc.StatusCode.UNKNOWN, UNKNOWN)
    assert again[0].replayed
    assert reason(again[1].status) == "DEPENDENCY_FAILED"
    assert notes.counts() == {"a": 1}


@pytest.mark.parametrize("streamed", [False, True])
async def test_other_content_is_refused(serving: Serving, notes: Notes, streamed: bool) -> None:
    await serving.run(notes.call("write", "a"), request_id="r")
    other = notes.call("write", "b")
    if streamed:
        turn = await Turn(serving.channel).start(request_id="r")
        await turn.call(0, other)
        error = await turn.failure()
    else:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ExecuteBatch(batch(other, request_id="r"), timeout=WAIT_S)
        error = caught.value

    assert error.code() is grpc.StatusCode.ALREADY_EXISTS
    status = rpc_status(error)
    assert reason(status) == "REQUEST_ID_REUSED"
    bad = detail(status, error_details_pb2.BadRequest)
    assert bad is not None
    assert bad.field_violations[0].field == "request_id"
    assert notes.counts() == {"a": 1}


async def test_other_content_after_calls_were_started(
    serving: Serving, notes: Notes, gate: Gate
) -> None:
    turn = await Turn(serving.channel).start(request_id="r")
    await turn.call(0, notes.call("read", "a", gate=gate.path))
    await turn.call(1, notes.call("write", "b"))
    first = await gate.arrived("a")
    turn.rpc.cancel()
    first.release()
    await serving.until(lambda statistics: statistics.running == 0)

    again = await Turn(serving.channel).start(request_id="r")
    await again.call(0, notes.call("read", "a", gate=gate.path))
    await again.until("result", 0)
    await again.call(1, notes.call("write", "other"))
    summary = await again.finish()

    assert reason(summary.status) == "REQUEST_ID_REUSED"
    assert (summary.sealed, summary.call_count, summary.ok_count) == (False, 1, 1)
    assert again.results()[0].replayed
    assert notes.counts() == {"a": 1}


async def test_tokens_keep_callers_apart(serving: Serving, notes: Notes) -> None:
    request = batch(notes.call("write", "a"), request_id="r")
    replayed = []
    for token in ("alice", "bob", "alice"):
        metadata = (("authorization", f"Bearer {token}"),)
        response = await serving.stub.ExecuteBatch(request, timeout=WAIT_S, metadata=metadata)
        replayed.append(response.results[0].replayed)

    assert replayed == [False, False, True]


@pytest.mark.parametrize(("size", "fits"), [(256, True), (257, False)])
@pytest.mark.parametrize("field", ["request_id", "idempotency_key"])
async def test_ids_have_a_size(
    serving: Serving, notes: Notes, size: int, fits: bool, field: str
) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    item = notes.call("write", "a")
    options = {}
    if field == "request_id":
        options["request_id"] = text
    else:
        item.idempotency_key = text
    if fits:
        for replayed in (False, True):
            (result,) = await serving.run(item, **options)
            assert (result.content, result.replayed) == ("did a", replayed)
        return
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.run(item, **options)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (caught.value.details() or "")
    assert notes.counts() == {}


async def test_a_key_used_for_something_else(serving: Serving, notes: Notes) -> None:
    first, other = notes.call("write", "a"), notes.call("write", "b")
    first.idempotency_key = other.idempotency_key = "k"
    (good,) = await serving.run(first)
    (bad,) = await serving.run(other)

    assert good.content == "did a"
    check_failure(bad, "IDEMPOTENCY_KEY_REUSED", grpc.StatusCode.ALREADY_EXISTS, NOT_STARTED)
    assert notes.counts() == {"a": 1}


async def test_many_sends_at_once(serving: Serving, notes: Notes) -> None:
    request = batch(
        *[notes.call("work", str(number), delay_ms=number) for number in range(20)],
        request_id="r",
    )
    async with connection(serving) as other:
        stubs = [serving.stub, other] * 10
        rpcs = [stub.ExecuteBatch(request, timeout=WAIT_S) for stub in stubs]
        for rpc in rpcs[::3]:
            rpc.cancel()
        await asyncio.wait([asyncio.ensure_future(_quiet(rpc)) for rpc in rpcs])
        final = await other.ExecuteBatch(request, timeout=WAIT_S)

    assert [r.content for r in final.results] == [f"did {number}" for number in range(20)]
    assert notes.counts() == {str(number): 1 for number in range(20)}


async def _quiet(rpc: Any) -> None:
    try:
        await rpc
    except asyncio.CancelledError:
        assert rpc.cancelled()
