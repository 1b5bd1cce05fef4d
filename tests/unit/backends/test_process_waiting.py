"""Calls that wait for a worker process, as the engine times them."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from tests.support.clock import FakeClock
from tests.support.engines import Bench, Turn, bench, failure_of, text_of

from sidecall_server.backends.python import PythonBackend
from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.events import CallEvent, Observer, PartialOutput
from sidecall_server.core.outcome import ExecutionState, Reason

# A bound for what happens at once; a slow machine may take long for it.
PATIENCE_S = 60

TOOLS = """
import os, time
from pathlib import Path
from sidecall import ToolContext, tool

while Path("held").exists():
    time.sleep(0.01)
if Path("broken").exists():
    raise RuntimeError("cannot be loaded any more")

@tool(isolation="process")
def die() -> None:
    os._exit(3)

@tool(isolation="process")
def answer() -> str:
    return "answered"

@tool(isolation="process", timeout=0.2)
def hang(context: ToolContext) -> None:
    context.output("here")
    while True:
        time.sleep(0.01)
"""


@pytest.fixture
async def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """An engine with one process. A file `held` keeps new ones from being ready."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools.py").write_text(TOOLS)
    clock = FakeClock()
    backend = PythonBackend([str(tmp_path / "tools.py")], Limits(max_processes=1), clock)
    try:
        tools = await backend.start()
        async with bench(*tools, clock=clock, max_processes=1) as made:
            yield made
    finally:
        await backend.stop(0.0)


async def finished(turn: Turn) -> Call:
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait((turn.task,))
    (call,) = turn.calls()
    return call


async def crash(made: Bench) -> None:
    call = await finished(await made.start([ToolCall("", "die")]))
    assert failure_of(call).reason is Reason.TOOL_CRASHED


def workers() -> list[psutil.Process]:
    alive = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if "process_worker" in " ".join(p.cmdline())]


def mark(name: str) -> None:
    Path(name).touch()


def unmark(name: str) -> None:
    Path(name).unlink()


async def start_after_a_crash(made: Bench, call: ToolCall, observer: Observer) -> Turn:
    mark("held")
    await crash(made)
    return await made.start([call], observer)


async def start_and_kill_its_process(made: Bench, call: ToolCall, observer: Observer) -> Turn:
    (process,) = workers()
    process.send_signal(signal.SIGSTOP)
    turn = await made.start([call], observer)
    mark("held")
    process.kill()
    async with asyncio.timeout(PATIENCE_S):
        while process.is_running():  # noqa: ASYNC110  nobody tells of another's child
            await asyncio.sleep(0.01)
        while not workers():  # noqa: ASYNC110  as above
            await asyncio.sleep(0.01)
    return turn


Start = Callable[[Bench, ToolCall, Observer], Awaitable[Turn]]
both_ways = pytest.mark.parametrize("start", [start_after_a_crash, start_and_kill_its_process])


def ignore(event: CallEvent) -> None:
    """Watches nothing."""


@both_ways
async def test_time_of_an_attempt_counts_from_when_a_process_has_it(
    made: Bench, start: Start
) -> None:
    outputs: asyncio.Queue[CallEvent] = asyncio.Queue()

    def observe(event: CallEvent) -> None:
        if isinstance(event, PartialOutput):
            outputs.put_nowait(event)

    turn = await start(made, ToolCall("", "hang"), observe)
    await made.clock.advance(10.0)
    assert not turn.done
    unmark("held")
    async with asyncio.timeout(PATIENCE_S):
        await outputs.get()
    assert made.clock.armed
    await made.clock.advance(0.1)
    assert not turn.done
    await made.clock.advance(0.1)
    call = await finished(turn)
    assert failure_of(call).reason is Reason.TOOL_TIMEOUT
    assert failure_of(call).state is ExecutionState.UNKNOWN
    assert call.attempt == 1
    assert call.finished_ns - call.started_ns == 200_000_000


async def expire(made: Bench) -> None:
    await made.clock.advance(5.0)


async def drain(made: Bench) -> None:
    made.engine.cancel_open()


@both_ways
@pytest.mark.parametrize(
    ("give_up", "reason"), [(expire, Reason.CALL_DEADLINE), (drain, Reason.DRAINING)]
)
async def test_call_that_waits_for_a_process_is_not_started(
    made: Bench, start: Start, give_up: Callable[[Bench], Awaitable[None]], reason: Reason
) -> None:
    turn = await start(made, ToolCall("", "hang", timeout_s=5.0), ignore)
    await give_up(made)
    call = await finished(turn)
    assert failure_of(call).reason is reason
    assert failure_of(call).state is ExecutionState.NOT_STARTED
    assert (call.attempt, call.started_ns) == (0, 0)
    unmark("held")
    assert text_of(await finished(await made.start([ToolCall("", "answer")]))) == "answered"


def spoil_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    mark("broken")


def leave_no_room_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.parametrize("spoil", [spoil_loading, leave_no_room_for_threads])
async def test_call_for_which_no_process_can_be_started_was_not_attempted(
    made: Bench, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    spoil(monkeypatch)
    await crash(made)
    call = await finished(await made.start([ToolCall("", "answer")]))
    assert failure_of(call).reason is Reason.TOOL_UNAVAILABLE
    assert failure_of(call).state is ExecutionState.NOT_STARTED
    assert (call.attempt, call.started_ns) == (0, 0)
