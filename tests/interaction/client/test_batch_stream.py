"""StreamBatch through the asyncio client and a real channel."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.support.fake_tool_service import FakeTool, FakeToolService, RpcFailure

from sidecall import AsyncClient, SidecallError, approve, pending_approvals
from sidecall.v1.execution_pb2 import (
    EXECUTION_MODE_SEQUENTIAL,
    EXECUTION_STATE_NOT_STARTED,
    EXECUTION_STATE_UNKNOWN,
)


async def echo(arguments: dict[str, Any]) -> str:
    return str(arguments.get("text", ""))


async def hang(arguments: dict[str, Any]) -> str:
    await asyncio.Event().wait()
    return str(arguments)


@pytest.fixture
async def service() -> AsyncIterator[FakeToolService]:
    tools = {
        "read": FakeTool(echo, progress=["half"]),
        "write": FakeTool(echo, read_only=False),
        "hang": FakeTool(hang),
    }
    async with FakeToolService(tools) as service:
        yield service


@pytest.fixture
async def client(service: FakeToolService) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(service.endpoint) as client:
        yield client


async def test_results_are_ordered_by_index(client: AsyncClient, service: FakeToolService) -> None:
    async with client.stream_batch(mode="sequential", context={"user": "u"}) as turn:
        await turn.send(1, {"name": "write", "arguments": {"text": "second"}})
        await turn.send(0, {"name": "read", "arguments": {"text": "first"}})
        await turn.seal()
        results = await turn.results()
        assert [result.content for result in results] == ["first", "second"]
        assert results.schedule.duration_ns
        assert not results.request_id
        assert turn.summary is not None
        assert turn.summary.sealed
    start = service.streams[0][0].start
    assert start.mode == EXECUTION_MODE_SEQUENTIAL
    assert start.context == {"user": "u"}


async def test_events_arrive_while_the_turn_is_open(
    client: AsyncClient, service: FakeToolService
) -> None:
    seen = []
    async with client.stream_batch() as turn:
        await turn.send(0, {"name": "read", "arguments": {"text": "early"}})
        async for event in turn:
            seen.append(event.WhichOneof("event"))
            if event.HasField("result"):
                break
        assert service.started == ["read"]
        await turn.send(1, {"name": "write"})
        await turn.seal()
        assert len(await turn.results()) == 2
    assert seen == ["accepted", "started", "progress", "partial_output", "result"]


async def test_an_abandoned_turn_starts_nothing_that_was_held(
    client: AsyncClient, service: FakeToolService
) -> None:
    async with client.stream_batch() as turn:
        await turn.send(0, {"name": "write"})
        await turn.abandon()
        (result,) = await turn.results()
    assert result.execution_state == EXECUTION_STATE_NOT_STARTED
    assert service.started == []


async def test_nothing_is_sent_to_an_abandoned_turn(client: AsyncClient) -> None:
    async with client.stream_batch() as turn, asyncio.timeout(60):
        await turn.send(0, {"name": "write"})
        await turn.abandon()
        with pytest.raises(ValueError, match="abandoned"):
            await turn.seal()
        with pytest.raises(ValueError, match="abandoned"):
            await turn.cancel(0)
        assert len(await turn.results()) == 1
        await turn.cancel(0)


async def test_a_turn_is_sealed_once(client: AsyncClient, service: FakeToolService) -> None:
    async with client.stream_batch() as turn:
        await turn.send(0, {"name": "read"})
        await turn.seal()
        with pytest.raises(ValueError, match="already sealed"):
            await turn.seal()
        assert len(await turn.results()) == 1
    assert [message.HasField("seal") for message in service.streams[0]].count(True) == 1


async def test_a_human_decides_on_a_call_of_a_turn(
    client: AsyncClient, service: FakeToolService
) -> None:
    service.tools["write"].needs_approval = True
    call = {"name": "write", "arguments": {"text": "done"}}
    async with client.stream_batch() as turn:
        await turn.send(0, call)
        await turn.seal()
        asked = await turn.results()
    (pending,) = pending_approvals(asked)
    (result,) = await client.execute_batch(
        [call], request_id=asked.request_id, approvals=[approve(pending)]
    )
    assert result.content == "done"


async def test_one_call_can_be_cancelled(client: AsyncClient) -> None:
    async with client.stream_batch() as turn:
        await turn.send(0, {"name": "hang"})
        await turn.send(1, {"name": "read", "arguments": {"text": "done"}})
        await turn.seal()
        async for event in turn:
            if event.HasField("result"):
                break
        await turn.cancel(0)
        cancelled, done = await turn.results()
        await turn.cancel(0)
    assert cancelled.execution_state == EXECUTION_STATE_UNKNOWN
    assert done.content == "done"


async def test_an_index_is_sent_once(client: AsyncClient) -> None:
    async with client.stream_batch() as turn:
        await turn.send(0, {"name": "read"})
        with pytest.raises(ValueError, match="call 0"):
            await turn.send(0, {"name": "read"})
        await turn.seal()
        with pytest.raises(ValueError, match="call 1"):
            await turn.send(1, {"name": "read"})


async def test_a_refused_turn_says_why(client: AsyncClient, service: FakeToolService) -> None:
    failure = RpcFailure(grpc.StatusCode.UNAVAILABLE, "DRAINING")
    service.failures["StreamBatch"] = [failure]
    with pytest.raises(SidecallError) as caught:
        await client.stream_batch().__aenter__()
    assert caught.value.reason == "DRAINING"
    assert caught.value.not_started


@pytest.mark.parametrize("reason", ["INTERNAL", "REQUEST_INVALID"])
async def test_a_turn_that_was_accepted_may_have_run(
    client: AsyncClient, service: FakeToolService, reason: str
) -> None:
    service.failures["seal"] = [RpcFailure(grpc.StatusCode.INTERNAL, reason)]
    async with client.stream_batch() as turn:
        await turn.send(0, {"name": "hang"})
        await turn.seal()
        with pytest.raises(SidecallError) as caught:
            await turn.results()
    assert caught.value.reason == reason
    assert not caught.value.not_started


async def test_a_sidecar_that_dies_leaves_the_outcome_open(
    client: AsyncClient, service: FakeToolService
) -> None:
    async with client.stream_batch() as turn:
        await turn.send(0, {"name": "hang"})
        await service.__aexit__()
        with pytest.raises(SidecallError) as caught:
            await turn.results()
        assert not caught.value.not_started
        with pytest.raises(SidecallError):
            await turn.send(1, {"name": "read"})
        await turn.abandon()


async def test_leaving_a_turn_early_cancels_it(
    client: AsyncClient, service: FakeToolService
) -> None:
    async with client.stream_batch() as turn:
        await turn.send(0, {"name": "hang"})
        async for event in turn:
            if event.HasField("started"):
                break
    await asyncio.wait_for(service.idle.wait(), 60)


async def test_a_stream_needs_to_be_entered(client: AsyncClient) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await client.stream_batch().send(0, {"name": "read"})
