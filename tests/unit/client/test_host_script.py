"""A host that is a script of its own."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from tests.support.fake_tool_host_service import WAIT_S, FakeToolHostService
from tests.support.fake_tool_service import RpcFailure

from sidecall import ToolHost, tool
from sidecall.v1.execution_pb2 import EXECUTION_STATE_UNKNOWN

SCRIPT = """
import asyncio
import sys
import time
from pathlib import Path

from sidecall import ToolHost, lifespan, tool

MARK = Path(sys.argv[2])


@lifespan
def resources():
    MARK.write_text("starting")
    time.sleep(float(sys.argv[4]))
    yield
    MARK.write_text("closed")


@tool
async def waits() -> str:
    MARK.write_text("running")
    while not MARK.with_suffix(".go").exists():
        await asyncio.sleep(0.01)
    return "done"


@tool
async def stubborn() -> None:
    MARK.write_text("running")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            MARK.write_text("ignored")


host = ToolHost(
    [waits, stubborn], endpoint=sys.argv[1], lifespan=resources, drain_timeout=sys.argv[3]
)
host.run()
print("after")
"""

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Where the script says how far it is."""
    return tmp_path / "mark"


@pytest.fixture
async def start(service: FakeToolHostService, tmp_path: Path, mark: Path) -> AsyncIterator[Start]:
    """Starts the script."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    async with AsyncExitStack() as stack:

        async def run(
            drain_timeout: str = "30s", start_s: float = 0.0
        ) -> asyncio.subprocess.Process:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, path, service.endpoint, mark, drain_timeout, str(start_s)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            stack.push_async_callback(_end, process)
            return process

        yield run


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def said(mark: Path) -> str:
    return mark.read_text() if mark.exists() else ""


async def says(mark: Path, word: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while said(mark) != word:  # noqa: ASYNC110  files have no events
            await asyncio.sleep(0.01)


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(WAIT_S):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_it(
    service: FakeToolHostService, start: Start, mark: Path, number: signal.Signals
) -> None:
    process = await start()
    attachment = await service.attachment()
    attempt_id = attachment.call("waits")
    await says(mark, "running")
    process.send_signal(number)
    await asyncio.wait_for(attachment.drained.wait(), WAIT_S)
    mark.with_suffix(".go").touch()
    assert (await attachment.result(attempt_id)).text == "done"
    assert await ended(process) == (0, "after\n", "")
    assert attachment.left_with == 0
    assert said(mark) == "closed"


async def test_a_second_signal_ends_the_drain(
    service: FakeToolHostService, start: Start, mark: Path
) -> None:
    process = await start("1h")
    attachment = await service.attachment()
    attachment.call("waits")
    await says(mark, "running")
    process.terminate()
    await asyncio.wait_for(attachment.drained.wait(), WAIT_S)
    process.terminate()
    assert await ended(process) == (0, "after\n", "")
    assert said(mark) == "closed"


async def test_a_tool_that_ignores_its_cancellation_does_not_keep_it(
    service: FakeToolHostService, start: Start, mark: Path
) -> None:
    process = await start("50ms")
    attachment = await service.attachment()
    attempt_id = attachment.call("stubborn")
    await says(mark, "running")
    process.terminate()
    result = await attachment.result(attempt_id)
    assert result.execution_state == EXECUTION_STATE_UNKNOWN
    code, output, errors = await ended(process)
    assert (code, output) == (0, "after\n")
    assert "left behind: stubborn" in errors


async def test_a_signal_while_it_starts(start: Start, mark: Path) -> None:
    process = await start(start_s=1.0)
    await says(mark, "starting")
    process.terminate()
    code, output, _ = await ended(process)
    assert (code, output) == (0, "after\n")


async def test_a_refusal_is_told(service: FakeToolHostService, start: Start) -> None:
    service.refusals = [RpcFailure(grpc.StatusCode.ALREADY_EXISTS, "TOOL_NAME_TAKEN")]
    code, output, errors = await ended(await start())
    assert (code, output) == (1, "")
    assert "SidecallError: ALREADY_EXISTS/TOOL_NAME_TAKEN: planned failure" in errors


async def test_it_belongs_into_the_main_thread() -> None:
    @tool
    def f() -> None:
        """Does nothing."""

    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(ToolHost(f).run)
