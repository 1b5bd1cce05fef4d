"""After the drain the process ends, whatever still runs in it."""

from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM

import grpc
import pytest
from tests.interaction.conftest import StartProcess
from tests.support.batches import batch, call, reasons
from tests.support.gate import Gate
from tests.support.serving import stub_of

Connect = Callable[[str], grpc.aio.Channel]

NOTHING = """
import asyncio, contextlib, threading
from sidecall import lifespan, tool

@tool
async def nothing() -> str:
    return "done"
"""

LIFESPAN_THAT_SWALLOWS_ITS_CANCELLATION = """
@lifespan
async def resources():
    yield None
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
"""

LIFESPAN_THAT_BLOCKS = """
@lifespan
def resources():
    yield None
    threading.Event().wait()
"""

TOOL_THAT_LEAVES_A_THREAD = """
@tool
async def nothing() -> str:
    threading.Thread(target=threading.Event().wait, name="left").start()
    return "done"
"""

TOOL_THAT_BLOCKS_AN_EXECUTOR = """
@tool
async def nothing() -> str:
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    return "done"
"""

TOOL_THAT_LEAVES_A_TASK_THAT_BLOCKS_THE_LOOP = """
async def block():
    try:
        await asyncio.Event().wait()
    finally:
        threading.Event().wait()

tasks = []

@tool
async def nothing() -> str:
    tasks.append(asyncio.create_task(block()))
    return "done"
"""


@pytest.mark.parametrize(
    "source",
    [
        LIFESPAN_THAT_SWALLOWS_ITS_CANCELLATION,
        LIFESPAN_THAT_BLOCKS,
        TOOL_THAT_LEAVES_A_THREAD,
        TOOL_THAT_BLOCKS_AN_EXECUTOR,
        TOOL_THAT_LEAVES_A_TASK_THAT_BLOCKS_THE_LOOP,
    ],
    ids=["cancellation", "lifespan", "thread", "executor", "loop"],
)
async def test_what_hangs_does_not_keep_the_process(
    start_process: StartProcess, connect: Connect, folder: Path, source: str
) -> None:
    tools = folder / "hanging_tools.py"
    known = NOTHING if "async def nothing" not in source else NOTHING.partition("@tool")[0]
    tools.write_text(known + source)
    sidecar = start_process("unix", tools=tools, drain_timeout="1s")
    response = await stub_of(connect(sidecar.address)).ExecuteBatch(batch(call("nothing")))
    assert reasons(response.results) == ["OK"]
    sidecar.signal(SIGTERM)
    assert await sidecar.ended() == 0
    assert ("left behind" in sidecar.log()) == (source is not LIFESPAN_THAT_BLOCKS)


async def test_a_thread_that_never_returns_does_not_keep_the_process(
    start_process: StartProcess, connect: Connect, gate: Gate
) -> None:
    sidecar = start_process("unix", drain_timeout="1s")
    running = stub_of(connect(sidecar.address)).ExecuteBatch(
        batch(call("hold_thread", {"gate": gate.path, "name": "a"}))
    )
    await gate.arrived("a")
    sidecar.signal(SIGTERM)
    assert reasons((await running).results) == ["DRAINING"]
    assert await sidecar.ended() == 0
