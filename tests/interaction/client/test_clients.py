"""Both clients against a fake service, through real channels."""

import asyncio
import math
from typing import Any

import grpc
import pytest
from tests.interaction.client.conftest import AnyClient
from tests.support.fake_tool_service import FakeTool, FakeToolService, RpcFailure

from sidecall import (
    AsyncClient,
    BatchResults,
    Client,
    ListedTools,
    SidecallError,
    ToolResult,
    approve,
    pending_approvals,
    reject,
)
from sidecall.v1.execution_pb2 import EXECUTION_MODE_SEQUENTIAL, FAILURE_POLICY_STOP
from sidecall.v1.tool_service_pb2 import ExecuteBatchRequest

SENT_AGAIN: dict[str, Any] = {
    "request_id": "r",
    "context": {"user": "u"},
    "sent_to_instance": "fake-1",
}


async def wait_for_ever(arguments: dict[str, Any]) -> str:
    await asyncio.Event().wait()
    return str(arguments)


async def test_capabilities(call: AnyClient, service: FakeToolService) -> None:
    assert (await call("wait_until_ready", timeout=30)).server_version == "0.0.0-fake"
    assert (await call("get_capabilities")).features == ["stream_batch"]
    assert service.metadata[-1]["x-tenant"] == "t1"


async def test_all_pages_of_tools_arrive(call: AnyClient) -> None:
    assert [tool.name for tool in await call("list_tools")] == ["a", "b", "c", "d", "e"]


async def test_a_listing_says_which_revision_it_is(
    call: AnyClient, service: FakeToolService
) -> None:
    service.revision = "r1"
    first: ListedTools = await call("list_tools")
    service.revision = "r2"
    service.page_size = 99
    second: ListedTools = await call("list_tools")
    assert [first.revision, second.revision] == ["r1", "r2"]
    assert first == second == list(first), "it is a list of tools like any other"


async def test_a_listing_begins_again_when_the_tools_change(
    call: AnyClient, service: FakeToolService
) -> None:
    service.failures["ListTools"] = [RpcFailure(grpc.StatusCode.ABORTED, "TOOLS_CHANGED")]
    assert [tool.name for tool in await call("list_tools")] == ["a", "b", "c", "d", "e"]


async def test_a_listing_that_never_settles_ends(call: AnyClient, service: FakeToolService) -> None:
    changed = RpcFailure(grpc.StatusCode.ABORTED, "TOOLS_CHANGED")
    service.failures["ListTools"] = [changed] * 9
    with pytest.raises(SidecallError) as caught:
        await call("list_tools")
    assert caught.value.reason == "TOOLS_CHANGED"


async def test_results_are_in_call_order(call: AnyClient) -> None:
    calls = [{"id": str(n), "name": "a", "arguments": {"text": f"text {n}"}} for n in range(20)]
    results: list[ToolResult] = await call("execute_batch", calls)
    assert [result.call_id for result in results] == [str(n) for n in range(20)]
    assert [result.content for result in results] == [f"text {n}" for n in range(20)]


async def test_one_call(call: AnyClient) -> None:
    result: ToolResult = await call("call", "a", {"text": "hello"}, timeout="30s")
    assert result.content == "hello"


async def test_options_reach_the_service(call: AnyClient, service: FakeToolService) -> None:
    await call(
        "execute_batch",
        [],
        mode="sequential",
        on_failure="stop",
        max_concurrency=3,
        context={"user": "u"},
        request_id="r",
        disable_references=True,
        session_id=None,
    )
    (sent,) = service.batches
    assert sent.mode == EXECUTION_MODE_SEQUENTIAL
    assert sent.on_failure == FAILURE_POLICY_STOP
    assert sent.max_concurrency == 3
    assert sent.context == {"user": "u"}
    assert sent.request_id == "r"
    assert sent.disable_references
    assert not sent.session_id


async def test_an_unknown_mode_is_refused(call: AnyClient) -> None:
    with pytest.raises(ValueError, match="parallel"):
        await call("execute_batch", [], mode="random")


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, True, "soon"])
async def test_a_timeout_that_makes_no_sense_is_refused(
    call: AnyClient, service: FakeToolService, timeout: Any
) -> None:
    for method, *args in (
        ("wait_until_ready",),
        ("get_capabilities",),
        ("list_tools",),
        ("execute_batch", []),
        ("call", "a"),
    ):
        with pytest.raises(ValueError, match="duration"):
            await call(method, *args, timeout=timeout)
    with pytest.raises(ValueError, match="duration"):
        await call("execute_batch", [{"name": "a", "timeout": timeout}])
    if isinstance(call.client, AsyncClient):
        with pytest.raises(ValueError, match="duration"):
            call.client.stream_batch(timeout=timeout)
    assert service.metadata == []


async def test_the_timeout_of_a_call_may_be_text(call: AnyClient, service: FakeToolService) -> None:
    await call("execute_batch", [{"name": "a", "timeout": "1m30s"}], timeout="1m")
    assert service.batches[0].calls[0].timeout.ToSeconds() == 90


async def test_the_reason_of_an_error_is_read(call: AnyClient, service: FakeToolService) -> None:
    failure = RpcFailure(grpc.StatusCode.UNIMPLEMENTED, "FEATURE_UNSUPPORTED")
    service.failures["ExecuteBatch"] = [failure]
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", [])
    error = caught.value
    assert error.code is grpc.StatusCode.UNIMPLEMENTED
    assert error.reason == "FEATURE_UNSUPPORTED"
    assert error.retry_after_s is None
    assert error.not_started
    assert str(error) == "UNIMPLEMENTED/FEATURE_UNSUPPORTED: planned failure"


async def test_a_draining_sidecar_is_asked_again(call: AnyClient, service: FakeToolService) -> None:
    draining = RpcFailure(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_after_s=0.01)
    service.failures["ExecuteBatch"] = [draining, draining]
    results: list[ToolResult] = await call("execute_batch", [{"name": "a"}], timeout=60)
    assert len(results) == 1
    assert len(service.batches) == 3


@pytest.mark.parametrize("reason", ["", "INTERNAL", "NEWER_THAN_THIS_CLIENT"])
async def test_what_may_have_started_is_not_sent_again(
    call: AnyClient, service: FakeToolService, reason: str
) -> None:
    service.failures["ExecuteBatch"] = [RpcFailure(grpc.StatusCode.UNAVAILABLE, reason)]
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", [{"name": "a"}])
    assert not caught.value.not_started
    assert len(service.batches) == 1


async def test_with_a_request_id_a_lost_answer_is_asked_for_again(
    call: AnyClient, service: FakeToolService
) -> None:
    lost = RpcFailure(grpc.StatusCode.UNAVAILABLE)
    service.failures = {"answer": [lost], "ExecuteBatch": [lost]}
    results: BatchResults = await call(
        "execute_batch", [{"name": "a"}], request_id="r", context={"user": "u"}, timeout=60
    )
    assert [(result.call_id, result.replayed) for result in results] == [("", True)]
    assert results.request_id == "r"
    assert service.started == ["a"]
    first, *others = service.batches
    assert first.sent_to_instance == ""
    assert others == [ExecuteBatchRequest(calls=first.calls, **SENT_AGAIN)] * 2


async def test_what_was_lost_once_may_have_started(
    call: AnyClient, service: FakeToolService
) -> None:
    lost = RpcFailure(grpc.StatusCode.UNAVAILABLE)
    draining = RpcFailure(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_after_s=90)
    service.failures["ExecuteBatch"] = [lost, draining]
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", [{"name": "a"}], request_id="r", timeout=30)
    assert caught.value.reason == "DRAINING"
    assert not caught.value.not_started


async def test_a_human_decides(call: AnyClient, service: FakeToolService) -> None:
    for name in "bcd":
        service.tools[name].needs_approval = True
    calls = [{"name": name, "arguments": {"text": name}} for name in "abcd"]
    results: BatchResults = await call("execute_batch", calls)
    assert results.request_id
    assert results.schedule.duration_ns
    b, c, d = pending_approvals(results)
    decisions = [reject(c, comment="No."), approve(b, by="ada", arguments={"text": "B"})]
    results = await call("execute_batch", calls, request_id=results.request_id, approvals=decisions)
    assert [result.content for result in results][:3] == ["a", "B", "Not run: rejected. No."]
    assert pending_approvals(results) == [d]
    assert service.started == ["a", "b"]


async def test_a_decision_on_nothing_is_refused(call: AnyClient) -> None:
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", [{"name": "a"}], request_id="r", approvals=[approve("x")])
    assert caught.value.reason == "APPROVAL_UNKNOWN"
    assert caught.value.not_started


async def test_retry_after_is_told(call: AnyClient, service: FakeToolService) -> None:
    full = RpcFailure(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_BATCHES", retry_after_s=90)
    service.failures["ExecuteBatch"] = [full]
    with pytest.raises(SidecallError) as caught:
        await asyncio.wait_for(call("execute_batch", []), 30)
    assert caught.value.retry_after_s == 90
    assert len(service.batches) == 1


async def test_a_deadline_that_passes_leaves_the_outcome_open(
    call: AnyClient, service: FakeToolService
) -> None:
    service.tools["hang"] = FakeTool(wait_for_ever)
    with pytest.raises(SidecallError) as caught:
        await call("call", "hang", timeout=0.2)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not caught.value.not_started


async def test_a_closed_client_stays_closed(call: AnyClient, service: FakeToolService) -> None:
    await call("list_tools")
    await call("close")
    await call("close")
    for method, *args in (("call", "a"), ("list_tools",), ("wait_until_ready",)):
        with pytest.raises(RuntimeError, match="the client is closed: make a new one"):
            await call(method, *args)
    if isinstance(call.client, AsyncClient):
        stream = call.client.stream_batch()
        with pytest.raises(RuntimeError, match="the client is closed"):
            await stream.__aenter__()
    assert service.started == []


async def test_an_rpc_ends_when_its_client_is_closed(
    call: AnyClient, service: FakeToolService
) -> None:
    started = asyncio.Event()

    async def start(arguments: dict[str, Any]) -> str:
        started.set()
        return await wait_for_ever(arguments)

    service.tools["hang"] = FakeTool(start)
    task = asyncio.create_task(call("call", "hang", request_id="r", timeout=60))
    await started.wait()
    await call("close")
    with pytest.raises(SidecallError, match="the client was closed") as caught:
        await task
    assert caught.value.code is grpc.StatusCode.CANCELLED
    assert not caught.value.not_started
    assert caught.value.sent_to_instance == "fake-1"


async def test_a_stream_ends_when_its_client_is_closed(service: FakeToolService) -> None:
    async with AsyncClient(service.endpoint) as client, client.stream_batch() as stream:
        await anext(stream)
        await client.close()
        with pytest.raises(SidecallError, match="its client was closed"):
            await anext(stream)
        with pytest.raises(SidecallError, match=r"closed|cancelled"):
            await stream.seal()


async def test_a_cancelled_rpc_is_cancelled(service: FakeToolService) -> None:
    service.tools["hang"] = FakeTool(wait_for_ever)
    async with AsyncClient(service.endpoint) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.call("hang")


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_nobody_there(kind: str, service: FakeToolService) -> None:
    endpoint = service.endpoint
    await service.__aexit__()
    client = Client(endpoint, retries=1) if kind == "sync" else AsyncClient(endpoint, retries=1)
    call = AnyClient(client)
    with pytest.raises(SidecallError) as caught:
        await call("execute_batch", [{"name": "a"}])
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.not_started
    with pytest.raises(SidecallError) as caught:
        await call("wait_until_ready", timeout=0.2)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert str(caught.value) == f"DEADLINE_EXCEEDED: no answer from {endpoint} in time"
    await call("close")


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_readiness_is_waited_for(kind: str, tmp_path: Any) -> None:
    service = FakeToolService({})
    service.address = f"unix:{tmp_path}/api.sock"
    client: Client | AsyncClient = (
        Client(service.address) if kind == "sync" else AsyncClient(service.address)
    )
    call = AnyClient(client)
    waiting = asyncio.create_task(call("wait_until_ready", timeout=60))
    service.failures["GetCapabilities"] = [RpcFailure(grpc.StatusCode.UNAVAILABLE, "STARTING")]
    async with service:
        assert (await waiting).server_version == "0.0.0-fake"
        await call("close")
