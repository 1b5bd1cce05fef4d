"""What a client says about the sidecar that it sent a batch to first."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.interaction.client.conftest import AnyClient
from tests.interaction.conftest import StartProcess
from tests.support.fake_tool_service import FakeToolService, RpcFailure
from tests.support.gate import WAIT_S, Gate
from tests.support.restarts import TOOLS, Restarts

from sidecall import AsyncClient, BatchResults, Client, SidecallError, reason_of

LOST = RpcFailure(grpc.StatusCode.UNAVAILABLE)
DRAINING = RpcFailure(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_after_s=0.01)
FORGOTTEN = RpcFailure(grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_FORGOTTEN")
CALLS = [{"name": "a"}]


def said(service: FakeToolService) -> list[str]:
    """What each send said about an earlier one."""
    return [batch.sent_to_instance for batch in service.batches]


async def test_only_what_may_have_been_received_is_sent_to_the_same_instance(
    call: AnyClient, service: FakeToolService
) -> None:
    service.failures["ExecuteBatch"] = [DRAINING, LOST, DRAINING]
    await call("execute_batch", CALLS, request_id="r", timeout=60)
    assert said(service) == ["", "", "fake-1", "fake-1"]


async def test_the_instance_is_asked_for_once_and_only_with_a_request_id(
    call: AnyClient, service: FakeToolService
) -> None:
    await call("execute_batch", CALLS)
    of_each = len(service.metadata)
    for request_id in "pqr":
        await call("execute_batch", CALLS, request_id=request_id)
    assert len(service.metadata) == 4 * of_each + 1


async def test_a_sidecar_that_was_restarted_in_between_is_told(
    call: AnyClient, service: FakeToolService
) -> None:
    await call("execute_batch", CALLS, request_id="p")
    service.instance_id = "fake-2"
    service.failures["answer"] = [LOST]
    await call("execute_batch", CALLS, request_id="q")
    assert said(service) == ["", "", "fake-1"]
    service.failures["answer"] = [LOST]
    await call("execute_batch", CALLS, request_id="r")
    assert said(service)[3:] == ["", "fake-2"], "asked again after a lost connection"


async def test_what_was_forgotten_may_have_started(
    call: AnyClient, service: FakeToolService
) -> None:
    service.failures["ExecuteBatch"] = [LOST, FORGOTTEN]
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", CALLS, request_id="r")
    assert caught.value.reason == "REQUEST_FORGOTTEN"
    assert not caught.value.not_started
    assert service.started == []


@pytest.mark.parametrize("tells", ["nothing", "no instance"])
async def test_without_an_instance_nothing_is_sent_again(
    call: AnyClient, service: FakeToolService, tells: str
) -> None:
    if tells == "nothing":
        service.failures["GetCapabilities"] = [RpcFailure(grpc.StatusCode.UNIMPLEMENTED)]
    else:
        service.instance_id = ""
    service.failures["answer"] = [LOST]
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", CALLS, request_id="r")
    assert not caught.value.not_started
    assert len(service.batches) == 1


async def test_who_sends_again_by_hand_says_where(
    call: AnyClient, service: FakeToolService
) -> None:
    service.failures["ExecuteBatch"] = [LOST, RpcFailure(grpc.StatusCode.INVALID_ARGUMENT, "X")]
    with pytest.raises(SidecallError):
        await call("execute_batch", CALLS, request_id="r", sent_to_instance="earlier")
    assert said(service) == ["earlier", "earlier"]
    service.failures["ExecuteBatch"] = [
        RpcFailure(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    ]
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", CALLS, request_id="r", sent_to_instance="earlier")
    assert not caught.value.not_started, "the earlier send may have started calls"


async def test_an_error_says_where_the_batch_may_have_been_received(
    call: AnyClient, service: FakeToolService
) -> None:
    full = RpcFailure(grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_MEMORY_FULL", retry_after_s=90)
    service.failures["ExecuteBatch"] = [full]
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", CALLS, request_id="r")
    assert caught.value.not_started
    assert caught.value.sent_to_instance == ""
    broken = RpcFailure(grpc.StatusCode.INTERNAL)
    service.failures["ExecuteBatch"] = [broken, broken]
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", CALLS, request_id="r")
    assert not caught.value.not_started
    where = caught.value.sent_to_instance
    assert where == "fake-1"
    service.instance_id = "fake-2"
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", CALLS, request_id="r", sent_to_instance=where)
    assert caught.value.sent_to_instance == where, "the first send stays the one that counts"
    assert said(service)[-1] == where


async def test_the_instance_is_asked_for_until_the_sidecar_answers(
    call: AnyClient, service: FakeToolService
) -> None:
    service.failures = {"GetCapabilities": [LOST, LOST], "answer": [LOST]}
    results: BatchResults = await call("execute_batch", CALLS, request_id="r")
    assert [result.replayed for result in results] == [True]
    assert said(service) == ["", "fake-1"]


@pytest.mark.parametrize("code", [LOST.code, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_without_an_answer_no_batch_is_sent(
    call: AnyClient, service: FakeToolService, code: grpc.StatusCode
) -> None:
    service.failures["GetCapabilities"] = [RpcFailure(code)] * 99
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", CALLS, request_id="r", timeout=1)
    assert caught.value.code is code
    assert caught.value.not_started
    assert service.batches == []


async def test_a_stream_that_breaks_off_says_where_it_was_sent(service: FakeToolService) -> None:
    service.failures["seal"] = [LOST]
    async with (
        AsyncClient(service.endpoint) as client,
        client.stream_batch(request_id="r") as stream,
    ):
        await stream.seal()
        with pytest.raises(SidecallError) as caught:
            await stream.results()
    assert caught.value.sent_to_instance == "fake-1"


async def test_a_stream_knows_where_it_was_sent(service: FakeToolService) -> None:
    async with AsyncClient(service.endpoint) as client:
        async with client.stream_batch(request_id="r") as stream:
            assert stream.sent_to_instance == "fake-1"
            await stream.seal()
            await stream.results()
        async with client.stream_batch(request_id="r", sent_to_instance="earlier") as stream:
            assert stream.sent_to_instance == "earlier"
            await stream.abandon()
        async with client.stream_batch() as stream:
            assert stream.sent_to_instance == ""
            await stream.abandon()
        service.failures["StreamBatch"] = [FORGOTTEN]
        with pytest.raises(SidecallError) as caught:
            await client.stream_batch(request_id="r", sent_to_instance="earlier").__aenter__()
        assert not caught.value.not_started
    starts = [messages[0].start.sent_to_instance for messages in service.streams]
    assert starts == ["", "earlier", ""]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_sidecar_that_dies_runs_nothing_twice(
    start_process: StartProcess, folder: Path, gate: Gate, store: str, kind: str
) -> None:
    url = f"sqlite:///{folder}/calls.db" if store == "sqlite" else "memory"
    sidecar = Restarts(start_process("unix", tools=TOOLS, store=url), folder)
    calls: list[dict[str, Any]] = [
        {"name": "write", "arguments": sidecar.arguments("done")},
        {"name": "write", "arguments": sidecar.arguments("running", gate=gate.path)},
    ]
    address = sidecar.process.address
    client: Client | AsyncClient = (Client if kind == "sync" else AsyncClient)(address)
    call = AnyClient(client)
    # As long as it has to be: a client with a timeout goes on until then.
    task = asyncio.create_task(call("execute_batch", calls, request_id="r", timeout=WAIT_S))
    await gate.arrived("running")
    await sidecar.until_started(2)
    await sidecar.restart()
    if store == "sqlite":
        results: BatchResults = await task
        assert reason_of(results[1]) == "OUTCOME_UNKNOWN"
        assert reason_of(results[0]) in ("", "OUTCOME_UNKNOWN"), "its end may not be written"
    else:
        with pytest.raises(SidecallError) as caught:
            await task
        assert caught.value.reason == "REQUEST_FORGOTTEN"
        assert not caught.value.not_started
    assert sidecar.lines() == {"done": 1, "running": 1}
    await call("close")
