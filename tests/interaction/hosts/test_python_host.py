"""The Python SDK's host against real sidecars."""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.interaction.conftest import StartProcess, StartServing
from tests.support.batches import reasons
from tests.support.serving import Serving

from sidecall import (
    AsyncClient,
    Image,
    SidecallError,
    ToolCall,
    ToolContext,
    ToolError,
    ToolHost,
    is_ok,
    tool,
)
from sidecall.v1.execution_pb2 import (
    EXECUTION_STATE_COMPLETED,
    EXECUTION_STATE_NOT_STARTED,
)
from sidecall.v1.tool_pb2 import TOOL_HEALTH_UNAVAILABLE, ToolHealth

WAIT_S = 30.0
PNG = b"\x89PNG\r\n\x1a\n"

Attach = Callable[..., Awaitable[ToolHost]]


@tool(effects="read_only")
async def remote(text: str = "remote") -> dict[str, str]:
    """Says it."""
    return {"said": text}


@pytest.fixture
async def client(sidecar: Serving) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(sidecar.address) as client:
        yield client


@pytest.fixture
async def attach(sidecar: Serving) -> AsyncIterator[Attach]:
    """Attaches hosts; `await attach(tool, max_concurrency=1)`."""
    async with AsyncExitStack() as stack:

        async def start(*tools: Any, **options: Any) -> ToolHost:
            options = {"endpoint": sidecar.address, "drain_timeout": WAIT_S, **options}
            host = await stack.enter_async_context(ToolHost(tools, **options))
            await host.wait_until_attached()
            return host

        yield start


async def test_own_and_hosted_tools_in_one_batch(client: AsyncClient, attach: Attach) -> None:
    @tool
    def measure(values: list[str], unit: str = "chars") -> str:
        return f"{sum(map(len, values))} {unit}"

    @tool
    async def draw() -> list[Any]:
        return ["a chart", {"a": 1}, Image(PNG)]

    @tool
    async def fails() -> None:
        raise ToolError("no such city", code="NOT_FOUND")

    await attach(remote, measure, draw, fails)
    results = await client.execute_batch(
        [
            {"name": "echo", "arguments": {"text": "abc"}},
            {"name": "remote", "arguments": {"text": "$ref:@1"}},
            {"name": "measure", "arguments": {"values": ["$ref:@1", "$ref:@2#/said"]}},
            {"name": "draw"},
            {"name": "fails"},
            {"name": "measure", "arguments": {"values": 3}},
        ]
    )
    assert [result.content for result in results[:5]] == [
        "abc",
        '{"said":"abc"}',
        "6 chars",
        'a chart\n{"a":1}\n[image/png, 8 bytes]',
        "no such city",
    ]
    assert [part.WhichOneof("part") for part in results[3].parts] == ["text", "json", "blob"]
    assert reasons(results)[4:] == ["TOOL_FAILED", "ARGUMENTS_INVALID"]


async def test_progress_and_output_reach_the_stream(client: AsyncClient, attach: Attach) -> None:
    @tool
    async def talks(ctx: ToolContext) -> AsyncIterator[str]:
        ctx.progress(1, 2, "half")
        yield "a"
        yield "b"

    await attach(talks)
    async with client.stream_batch() as turn:
        await turn.send(0, {"name": "talks"})
        await turn.seal()
        events = [event async for event in turn]
        (result,) = await turn.results()
    assert result.content == "ab"
    shown = [e.partial_output.text for e in events if e.HasField("partial_output")]
    assert shown == ["a", "b"]
    (progress,) = [e.progress for e in events if e.HasField("progress")]
    assert (progress.progress, progress.total, progress.message) == (1, 2, "half")


async def test_limits_hold_and_every_call_has_its_own_result(
    client: AsyncClient, attach: Attach
) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @tool(max_concurrency=3, effects="read_only")
    async def limited(n: int) -> int:
        running["limited"] += 1
        most["limited"] = max(most["limited"], running["limited"])
        await asyncio.sleep(0.001)
        running["limited"] -= 1
        return n

    await attach(limited, max_concurrency=8)
    calls = [{"name": "limited", "arguments": {"n": n}} for n in range(300)]
    results = await client.execute_batch(calls)
    assert [result.content for result in results] == [str(n) for n in range(300)]
    assert 1 <= most["limited"] <= 3


async def test_a_name_that_the_sidecar_has_is_refused(sidecar: Serving) -> None:
    @tool
    def echo() -> str:
        return "of the application"

    async with AsyncExitStack() as stack:
        host = ToolHost([remote, echo], endpoint=sidecar.address, name="shop")
        await host.__aenter__()
        stack.push_async_callback(_leave, host)
        with pytest.raises(SidecallError, match="'echo'") as caught:
            await host.wait_until_attached()
        assert caught.value.code is grpc.StatusCode.ALREADY_EXISTS
        assert caught.value.reason == "TOOL_NAME_TAKEN"
        assert "tools.py" in str(caught.value)
        assert "shop" in str(caught.value)


async def _leave(host: ToolHost) -> None:
    with pytest.raises(SidecallError):
        await host.__aexit__(None, None, None)


async def test_a_host_that_leaves_finishes_what_it_has(
    sidecar: Serving, client: AsyncClient
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @tool
    async def waits() -> str:
        started.set()
        await go_on.wait()
        return "done"

    host = ToolHost([waits], endpoint=sidecar.address)
    await host.__aenter__()
    await host.wait_until_attached()
    running = asyncio.create_task(client.call("waits"))
    await asyncio.wait_for(started.wait(), WAIT_S)
    leaving = asyncio.create_task(host.__aexit__(None, None, None))
    async with asyncio.timeout(WAIT_S):
        while await _health(client, "waits") != TOOL_HEALTH_UNAVAILABLE:  # noqa: ASYNC110  polled by clients too
            await asyncio.sleep(0.01)
    (late,) = await client.execute_batch(
        [ToolCall(name="waits", timeout=Duration(nanos=50_000_000))]
    )
    assert late.execution_state == EXECUTION_STATE_NOT_STARTED
    go_on.set()
    result = await running
    assert (result.content, result.execution_state) == ("done", EXECUTION_STATE_COMPLETED)
    await leaving


async def test_a_call_that_is_cancelled_ends_in_the_application(
    client: AsyncClient, attach: Attach
) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    @tool
    async def hangs() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await attach(hangs)
    running = asyncio.create_task(client.call("hangs"))
    await asyncio.wait_for(started.wait(), WAIT_S)
    running.cancel()
    await asyncio.wait_for(ended.wait(), WAIT_S)


async def test_a_thread_that_outlasts_its_call_keeps_its_permit(
    sidecar: Serving, client: AsyncClient, attach: Attach
) -> None:
    started, told, go_on = threading.Event(), threading.Event(), threading.Event()

    @tool(max_concurrency=1)
    def keeps_on(ctx: ToolContext) -> None:
        started.set()
        if ctx.wait_cancelled(WAIT_S):
            told.set()
        go_on.wait(WAIT_S)

    await attach(keeps_on)
    running = asyncio.create_task(client.call("keeps_on"))
    assert await asyncio.to_thread(started.wait, WAIT_S)
    running.cancel()
    assert await asyncio.to_thread(told.wait, WAIT_S)
    assert sidecar.statistics.limiters["keeps_on"].active == 1
    go_on.set()
    await sidecar.until(lambda statistics: not statistics.limiters["keeps_on"].active)


async def test_a_result_that_is_too_large_costs_its_call_alone(
    start_sidecar: StartServing,
) -> None:
    @tool
    async def large() -> str:
        return "x" * 100_000

    sidecar = await start_sidecar(max_message_bytes=65_536)
    async with (
        ToolHost([large, remote], endpoint=sidecar.address) as host,
        AsyncClient(sidecar.address) as client,
    ):
        await host.wait_until_attached()
        results = await client.execute_batch([{"name": "large"}, {"name": "remote"}])
    assert results[0].status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert results[0].execution_state == EXECUTION_STATE_COMPLETED
    assert is_ok(results[1])


async def test_when_one_of_two_hosts_leaves_no_call_is_lost(
    client: AsyncClient, sidecar: Serving, attach: Attach
) -> None:
    @tool(name="place")
    async def stays() -> str:
        return "stays"

    @tool(name="place")
    async def leaves() -> str:
        return "leaves"

    await attach(stays, max_concurrency=2)
    seen: Counter[str] = Counter()

    async def keep_calling(until: asyncio.Event) -> None:
        while not until.is_set():
            result = await client.call("place")
            assert is_ok(result), result
            seen[result.content] += 1

    enough = asyncio.Event()
    callers = [asyncio.create_task(keep_calling(enough)) for _ in range(3)]
    for _ in range(5):
        async with ToolHost(leaves, endpoint=sidecar.address, max_concurrency=8) as host:
            await host.wait_until_attached()
            before = seen["leaves"]
            async with asyncio.timeout(WAIT_S):
                while seen["leaves"] < before + 3:  # noqa: ASYNC110  what a counter says
                    await asyncio.sleep(0.001)
    enough.set()
    await asyncio.gather(*callers)


async def test_a_sidecar_that_is_killed_and_one_that_shuts_down(
    start_process: StartProcess,
) -> None:
    process = start_process("tcp")
    started, go_on = asyncio.Event(), asyncio.Event()

    @tool
    async def waits() -> str:
        started.set()
        await go_on.wait()
        return "done"

    async with (
        ToolHost([waits, remote], endpoint=process.address) as host,
        AsyncClient(process.address) as client,
    ):
        await host.wait_until_attached()
        process.kill()
        process.launch()
        await asyncio.to_thread(process.wait_until_listening)
        await client.wait_until_ready()
        await _until_offered(client, "remote")
        assert is_ok(await client.call("remote"))
        running = asyncio.create_task(client.call("waits"))
        await asyncio.wait_for(started.wait(), WAIT_S)
        process.signal(signal.SIGTERM)
        with pytest.raises(SidecallError, match="DRAINING"):
            await _until_refused(process.address)
        go_on.set()
        assert (await running).content == "done"
        assert await process.ended() == 0


async def _health(client: AsyncClient, name: str) -> "ToolHealth.ValueType":
    (found,) = [item for item in await client.list_tools() if item.name == name]
    return found.health


async def _until_offered(client: AsyncClient, name: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while name not in {item.name for item in await client.list_tools()}:  # noqa: ASYNC110  polled by clients too
            await asyncio.sleep(0.01)


async def _until_refused(address: str) -> None:
    async with AsyncClient(address, retries=0) as client, asyncio.timeout(WAIT_S):
        while True:
            await client.call("remote")


async def test_a_sidecar_on_a_unix_socket_that_starts_later(start_process: StartProcess) -> None:
    process = start_process("unix", wait=False)
    async with (
        ToolHost([remote], endpoint=process.address) as host,
        AsyncClient(process.address) as client,
    ):
        await host.wait_until_attached(WAIT_S)
        assert is_ok(await client.call("remote"))
