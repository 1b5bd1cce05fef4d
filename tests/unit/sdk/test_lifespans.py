import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.handler_calls import run, text

from sidecall import lifespan, tool
from sidecall._lifespans import Lifespans
from sidecall._loader import LoadedSource, ToolLoadError
from sidecall_server.backends.python import PythonBackend
from sidecall_server.core.defaults import Limits
from sidecall_server.observability.clock import SystemClock

# A bound for what happens at once; a slow machine may take long for it.
PATIENCE_S = 60


def source(function: Callable[[], Any] | None, name: str = "tools.py") -> LoadedSource:
    @tool
    async def nothing() -> None:
        """Does nothing."""

    return LoadedSource(name, (nothing,), None if function is None else lifespan(function))


async def test_all_kinds_start_in_order_and_end_in_reverse() -> None:
    happened: list[str] = []

    async def asynchronous() -> AsyncIterator[str]:
        happened.append("start 1")
        yield "one"
        happened.append("end 1")

    def synchronous() -> Iterator[str]:
        happened.append("start 2")
        yield "two"
        happened.append("end 2")

    @contextlib.asynccontextmanager
    async def manager() -> AsyncIterator[str]:
        happened.append("start 3")
        yield "three"
        happened.append("end 3")

    lifespans = Lifespans(
        [source(asynchronous), source(None), source(synchronous), source(manager)]
    )
    assert await lifespans.start() == ["one", None, "two", "three"]
    await lifespans.stop(PATIENCE_S)
    await lifespans.stop(PATIENCE_S)
    assert happened == ["start 1", "start 2", "start 3", "end 3", "end 2", "end 1"]


async def test_start_and_end_happen_in_one_task() -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def f() -> AsyncIterator[None]:
        tasks.append(asyncio.current_task())
        yield
        tasks.append(asyncio.current_task())

    lifespans = Lifespans([source(f)])
    await lifespans.start()
    await asyncio.create_task(lifespans.stop(PATIENCE_S))
    assert tasks[0] is tasks[1]


async def test_failed_start_ends_what_had_started() -> None:
    ended: list[str] = []

    async def first() -> AsyncIterator[None]:
        yield
        ended.append("first")

    async def second() -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    lifespans = Lifespans([source(first), source(second, "db_tools.py")])
    with pytest.raises(ToolLoadError, match=r"db_tools.py: .* ConnectionError: no database"):
        await lifespans.start()
    await lifespans.stop(PATIENCE_S)
    assert ended == ["first"]


async def test_function_that_does_not_yield_is_explained() -> None:
    lifespans = Lifespans([source(lambda: 3)])
    with pytest.raises(ToolLoadError, match="neither a context manager nor yields"):
        await lifespans.start()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
async def test_failed_end_is_logged(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def f() -> AsyncIterator[None]:
        yield
        raise error("cannot close")

    lifespans = Lifespans([source(f)])
    await lifespans.start()
    with caplog.at_level(logging.ERROR):
        await lifespans.stop(PATIENCE_S)
    assert "cannot close" in caplog.text


async def test_end_that_hangs_is_cancelled_after_the_grace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cancelled = asyncio.Event()

    async def f() -> AsyncIterator[None]:
        yield
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    lifespans = Lifespans([source(f)])
    await lifespans.start()
    await lifespans.stop(0.01)
    assert cancelled.is_set()
    assert "takes longer than 0.01 s" in caplog.text


async def test_end_that_ignores_its_cancellation_is_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release, ended = asyncio.Event(), asyncio.Event()

    async def f() -> AsyncIterator[None]:
        yield
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        ended.set()

    lifespans = Lifespans([source(f)])
    await lifespans.start()
    async with asyncio.timeout(PATIENCE_S):
        await lifespans.stop(0.01)
        assert not ended.is_set()
        assert "left behind" in caplog.text
        release.set()
        await ended.wait()


async def test_threads_of_lifespans_do_not_keep_the_process_and_see_its_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[tuple[bool, str]] = []

    def f() -> Iterator[None]:
        seen.append((threading.current_thread().daemon, variable.get()))
        yield
        seen.append((threading.current_thread().daemon, variable.get()))

    variable.set("set")
    lifespans = Lifespans([source(f)])
    await lifespans.start()
    await lifespans.stop(PATIENCE_S)
    assert seen == [(True, "set")] * 2


async def test_cancelled_start_ends_what_had_started() -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def first() -> AsyncIterator[None]:
        try:
            yield
        finally:
            ended.set()

    async def second() -> AsyncIterator[None]:
        entered.set()
        await asyncio.Event().wait()
        yield

    lifespans = Lifespans([source(first), source(second)])
    starting = asyncio.create_task(lifespans.start())
    await entered.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await lifespans.stop(PATIENCE_S)
    assert ended.is_set()


async def test_tools_of_a_file_see_what_its_own_lifespan_yielded(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(
            "from sidecall import ToolContext, lifespan, tool\n"
            "state = []\n"
            "@lifespan\n"
            "async def resources():\n"
            f"    state.append('{name}')\n"
            "    yield state\n"
            "    state.clear()\n"
            f"@tool(name='{name}_async')\n"
            "async def f(context: ToolContext):\n"
            "    return context.state\n"
            f"@tool(name='{name}_thread')\n"
            "def g(context: ToolContext):\n"
            "    return context.state\n"
            f"@tool(name='{name}_late')\n"
            "async def h():\n"
            "    return state\n"
        )
    clock = SystemClock(asyncio.get_running_loop())
    paths = [str(tmp_path / "first.py"), str(tmp_path / "second.py")]
    backend = PythonBackend(paths, Limits(), clock)
    tools = await backend.start()
    for name in ("first", "second"):
        for kind in ("async", "thread"):
            assert text(await run(tools, f"{name}_{kind}")) == f'["{name}"]'
    await backend.stop(PATIENCE_S)
    assert text(await run(tools, "first_late")) == "[]"
