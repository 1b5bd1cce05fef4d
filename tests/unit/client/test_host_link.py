"""How a host attaches, stays attached, drains and ends."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2
from tests.support.fake_tool_host_service import WAIT_S, FakeAttachment, FakeToolHostService
from tests.support.fake_tool_service import RpcFailure
from tests.support.sidecar import free_address
from tests.unit.client.conftest import Attach

from sidecall import SidecallError, ToolContext, ToolHost, ToolLoadError, lifespan, tool
from sidecall import _host_attachment as attachments
from sidecall._version import __version__
from sidecall.v1.execution_pb2 import EXECUTION_STATE_NOT_STARTED, EXECUTION_STATE_UNKNOWN


@tool
async def echo(text: str = "echo") -> str:
    """Says it."""
    return text


async def leave(host: ToolHost) -> None:
    await host.__aexit__(None, None, None)


async def over(attachment: FakeAttachment) -> None:
    await asyncio.wait_for(attachment.over.wait(), WAIT_S)


async def test_it_says_what_it_is(service: FakeToolHostService) -> None:
    async with ToolHost(
        [echo],
        endpoint=service.endpoint,
        name="weather",
        max_concurrency=3,
        token="t",  # noqa: S106  not a secret
        metadata=[("x-tenant", "a")],
        max_message_bytes=1_000_000,
    ) as host:
        attachment = await service.attachment()
        await host.wait_until_attached()
        assert host.is_attached
    attach = attachment.attach
    assert (attach.host_name, attach.max_concurrency) == ("weather", 3)
    assert attach.user_agent == f"sidecall-python/{__version__}"
    assert attach.max_message_bytes == 1_000_000
    assert [item.name for item in attach.tools] == ["echo"]
    assert service.metadata[0]["authorization"] == "Bearer t"
    assert service.metadata[0]["x-tenant"] == "a"
    assert not host.is_attached


async def test_a_unix_socket_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeToolHostService(f"unix:{tmp_path}/s") as service:
        monkeypatch.setenv("SIDECALL_ENDPOINT", service.endpoint)
        async with ToolHost(echo):
            assert (await (await service.attachment()).run("echo")).text == "echo"


async def test_a_sidecar_that_starts_later_is_found(
    service: FakeToolHostService, caplog: pytest.LogCaptureFixture
) -> None:
    await service.kill()
    async with ToolHost([echo], endpoint=service.endpoint) as host:
        with pytest.raises(SidecallError, match=r"not attached after 0\.2 s: UNAVAILABLE"):
            await host.wait_until_attached(0.2)
        await service.start()
        assert (await (await service.attachment()).run("echo")).text == "echo"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("how", ["killed", "failed", "ended"])
async def test_calls_are_cancelled_with_their_stream_and_the_host_attaches_again(
    service: FakeToolHostService, attach: Attach, how: str
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def hangs() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    first = await attach(hangs, echo)
    first.call("hangs")
    await asyncio.wait_for(started.wait(), WAIT_S)
    if how == "killed":
        await service.kill()
        await service.start()
    else:
        failure = RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED, "HOST_SILENT")
        first.outgoing.put_nowait(None if how == "ended" else failure)
    second = await service.attachment()
    await asyncio.wait_for(cancelled.wait(), WAIT_S)
    assert (await second.run("echo", arguments={"text": "again"})).text == "again"


async def test_a_function_that_outlasts_its_stream_keeps_its_slot(
    service: FakeToolHostService, attach: Attach
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def stubborn() -> None:
        started.set()
        go_on.wait(WAIT_S)

    first = await attach(stubborn, echo, max_concurrency=1, drain_timeout=WAIT_S)
    first.call("stubborn")
    assert await asyncio.to_thread(started.wait, WAIT_S)
    first.outgoing.put_nowait(None)
    second = await service.attachment()
    late = await second.run("echo", timeout_s=0.05)
    assert late.status.code == code_pb2.DEADLINE_EXCEEDED
    assert late.execution_state == EXECUTION_STATE_NOT_STARTED
    attempt_id = second.call("echo")
    go_on.set()
    assert (await second.result(attempt_id)).text == "echo"


@pytest.mark.parametrize(
    "failure",
    [
        RpcFailure(grpc.StatusCode.ALREADY_EXISTS, "TOOL_NAME_TAKEN"),
        RpcFailure(grpc.StatusCode.UNAUTHENTICATED),
        RpcFailure(grpc.StatusCode.PERMISSION_DENIED),
        RpcFailure(grpc.StatusCode.INVALID_ARGUMENT),
        RpcFailure(grpc.StatusCode.UNIMPLEMENTED),
        RpcFailure(grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=lambda failure: failure.code.name,
)
async def test_a_refusal_ends_it(
    service: FakeToolHostService, failure: RpcFailure, caplog: pytest.LogCaptureFixture
) -> None:
    service.refusals = [failure]
    host = ToolHost([echo], endpoint=service.endpoint)
    await host.__aenter__()
    for wait in (host.wait_until_attached, host.wait_closed, partial(leave, host)):
        with pytest.raises(SidecallError, match="planned failure") as caught:
            await wait()
        assert (caught.value.code, caught.value.reason) == (failure.code, failure.reason)
    assert service.attempts == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_refusal_hides_no_other_error(service: FakeToolHostService) -> None:
    service.refusals = [RpcFailure(grpc.StatusCode.UNAUTHENTICATED)]
    host = ToolHost([echo], endpoint=service.endpoint)

    async def use() -> None:
        async with host:
            with pytest.raises(SidecallError):
                await host.wait_closed()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()


async def test_a_refusal_after_a_while_ends_it_too(service: FakeToolHostService) -> None:
    host = ToolHost([echo], endpoint=service.endpoint)
    await host.__aenter__()
    first = await service.attachment()
    service.refusals = [RpcFailure(grpc.StatusCode.ALREADY_EXISTS, "TOOL_NAME_TAKEN")]
    first.outgoing.put_nowait(None)
    with pytest.raises(SidecallError, match="TOOL_NAME_TAKEN"):
        await host.wait_closed()
    assert not host.is_attached
    with pytest.raises(SidecallError, match="TOOL_NAME_TAKEN"):
        await leave(host)


@pytest.mark.parametrize(
    "failure",
    [
        RpcFailure(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_HOSTS", 0.05),
        RpcFailure(grpc.StatusCode.UNAVAILABLE, "DRAINING"),
        RpcFailure(grpc.StatusCode.INTERNAL),
    ],
    ids=lambda failure: failure.code.name,
)
async def test_what_may_pass_is_tried_again(
    service: FakeToolHostService, attach: Attach, failure: RpcFailure
) -> None:
    service.refusals = [failure, failure]
    attachment = await attach(echo)
    assert service.attempts == 3
    assert (await attachment.run("echo")).text == "echo"


async def test_a_sidecar_that_does_not_answer_is_asked_again(
    service: FakeToolHostService, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "_ATTACH_S", 0.1)
    service.is_deaf = True
    async with ToolHost([echo], endpoint=service.endpoint) as host:
        async with asyncio.timeout(WAIT_S):
            while service.attempts < 2:  # noqa: ASYNC110  what a counter says
                await asyncio.sleep(0.01)
        monkeypatch.setattr(attachments, "_ATTACH_S", WAIT_S)
        service.is_deaf = False
        await host.wait_until_attached()


async def test_a_sidecar_that_is_silent_is_gone(
    service: FakeToolHostService, attach: Attach
) -> None:
    service.silence_timeout_s = 0.2
    first = await attach(echo)
    service.silence_timeout_s = 0.0
    await over(first)
    second = await service.attachment()
    assert (await second.run("echo")).text == "echo"


async def test_heartbeats_come_where_nothing_else_does(
    service: FakeToolHostService, attach: Attach
) -> None:
    service.heartbeat_interval_s = 0.02
    attachment = await attach(echo)
    for _ in range(3):
        await attachment.heartbeat()
    assert (await attachment.run("echo")).text == "echo"
    await attachment.heartbeat()


async def test_it_finishes_its_calls_before_it_leaves(service: FakeToolHostService) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @tool
    async def waits() -> str:
        started.set()
        await go_on.wait()
        return "done"

    host = ToolHost([waits, echo], endpoint=service.endpoint)
    await host.__aenter__()
    attachment = await service.attachment()
    attempt_id = attachment.call("waits")
    await asyncio.wait_for(started.wait(), WAIT_S)
    leaving = asyncio.create_task(leave(host))
    await asyncio.wait_for(attachment.drained.wait(), WAIT_S)
    crossing = attachment.call("echo")
    assert (await attachment.result(crossing)).text == "echo"
    assert not attachment.half_closed.is_set()
    go_on.set()
    assert (await attachment.result(attempt_id)).text == "done"
    await leaving
    assert attachment.left_with == 0
    assert attachment.received[-1].HasField("result")


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_what_does_not_end_is_abandoned(
    service: FakeToolHostService, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    started, go_on = threading.Event(), threading.Event()

    @tool
    async def coroutine() -> None:
        started.set()
        while not go_on.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    @tool
    def thread() -> None:
        started.set()
        go_on.wait(WAIT_S)

    host = ToolHost([coroutine, thread], endpoint=service.endpoint, drain_timeout="20ms")
    async with host:
        attachment = await service.attachment()
        attempt_id = attachment.call(kind)
        assert await asyncio.to_thread(started.wait, WAIT_S)
    result = await attachment.result(attempt_id)
    assert result.status.code == code_pb2.CANCELLED
    assert result.execution_state == EXECUTION_STATE_UNKNOWN
    assert attachment.left_with == 0
    assert f"functions that still run are abandoned: {kind}" in caplog.text
    go_on.set()
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("sidecall-call")]
    if left:
        await asyncio.wait(left, timeout=WAIT_S)


async def test_a_drain_that_is_cancelled_ends_at_once(service: FakeToolHostService) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    @tool
    async def hangs() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    serving = asyncio.create_task(
        ToolHost([hangs], endpoint=service.endpoint, drain_timeout="1h").serve()
    )
    attachment = await service.attachment()
    attachment.call("hangs")
    await asyncio.wait_for(started.wait(), WAIT_S)
    serving.cancel()
    await asyncio.wait_for(attachment.drained.wait(), WAIT_S)
    assert not cancelled.is_set()
    serving.cancel()
    await asyncio.wait((serving,), timeout=WAIT_S)
    assert serving.cancelled()
    assert cancelled.is_set()


async def test_a_stream_that_breaks_ends_the_drain(service: FakeToolHostService) -> None:
    started = asyncio.Event()

    @tool
    async def hangs() -> None:
        started.set()
        await asyncio.Event().wait()

    host = ToolHost([hangs], endpoint=service.endpoint, drain_timeout="1h")
    await host.__aenter__()
    attachment = await service.attachment()
    attachment.call("hangs")
    await asyncio.wait_for(started.wait(), WAIT_S)
    leaving = asyncio.create_task(leave(host))
    await asyncio.wait_for(attachment.drained.wait(), WAIT_S)
    await service.kill()
    async with asyncio.timeout(WAIT_S):
        await leaving


async def test_a_sidecar_that_shuts_down_gets_its_results(
    service: FakeToolHostService, attach: Attach
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def waits() -> str:
        started.set()
        await go_on.wait()
        return "done"

    first = await attach(waits, echo)
    attempt_id = first.call("waits")
    await asyncio.wait_for(started.wait(), WAIT_S)
    first.send(draining={})
    go_on.set()
    assert (await first.result(attempt_id)).text == "done"
    await over(first)
    assert first.left_with == 0
    assert not first.drained.is_set()
    second = await service.attachment()
    second.send(draining={})
    await over(second)
    assert (await (await service.attachment()).run("echo")).text == "echo"


async def test_closing_while_it_waits_to_attach(service: FakeToolHostService) -> None:
    async with ToolHost([echo], endpoint=free_address()) as host:
        with pytest.raises(SidecallError):
            await host.wait_until_attached("50ms")
    service.is_deaf = True
    async with ToolHost([echo], endpoint=service.endpoint), asyncio.timeout(WAIT_S):
        while not service.attempts:  # noqa: ASYNC110  what a counter says
            await asyncio.sleep(0.01)


async def test_a_host_is_opened_once(service: FakeToolHostService) -> None:
    host = ToolHost([echo], endpoint=service.endpoint)
    with pytest.raises(RuntimeError, match="not open"):
        await host.wait_until_attached()
    async with host:
        await host.wait_until_attached()
    with pytest.raises(RuntimeError, match="opened once"):
        await host.__aenter__()


async def test_the_lifespan_lasts_as_long_as_the_host(service: FakeToolHostService) -> None:
    happened: list[str] = []

    @lifespan
    async def resources() -> AsyncIterator[str]:
        happened.append("opened")
        yield "resource"
        happened.append("closed")

    @tool
    async def use(ctx: ToolContext) -> str:
        return str(ctx.state)

    async with ToolHost([use], endpoint=service.endpoint, lifespan=resources):
        assert (await (await service.attachment()).run("use")).text == "resource"
        assert happened == ["opened"]
    assert happened == ["opened", "closed"]


async def test_a_lifespan_that_fails_keeps_it_from_opening(service: FakeToolHostService) -> None:
    def fails() -> AsyncIterator[None]:
        raise OSError("no database")

    with pytest.raises(ToolLoadError, match="no database"):
        await ToolHost([echo], endpoint=service.endpoint, lifespan=lifespan(fails)).serve()
    assert service.attempts == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"endpoint": "http://a:1"}, "endpoint"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": 10_001}, "max_concurrency"),
        ({"drain_timeout": "soon"}, "duration"),
        ({"drain_timeout": 0}, "duration"),
        ({"name": "x" * 257}, "name"),
        ({"max_message_bytes": 0}, "max_message_bytes"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, object], text: str) -> None:
    make: Callable[..., ToolHost] = ToolHost
    with pytest.raises(ValueError, match=text):
        make([echo], **options)
