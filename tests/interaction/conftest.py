"""Fixtures for tests that talk to a real sidecar through a real channel."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support import sidecar as sidecars
from tests.support.gate import Gate
from tests.support.serving import Serving, start_serving
from tests.support.sidecar import SidecarProcess, free_address

TOOLS = Path(__file__).parent / "service" / "tools.py"
"""Tools that behave, that misbehave, and that wait at a gate."""

PROCESS_TOOLS = Path(__file__).parent / "service" / "process_tools.py"
"""Tools that run in worker processes."""

_ALL_TOOLS = {"tools": f"{TOOLS},{PROCESS_TOOLS}"}

StartProcess = Callable[..., SidecarProcess]
StartServing = Callable[..., Any]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the logs of the sidecars that run where a test fails."""
    report = yield
    if report.failed:
        report.sections.extend(sidecars.logs())
    return report


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="sidecall-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def gate(folder: Path) -> AsyncIterator[Gate]:
    """Where tools wait until the test lets them go on."""
    async with Gate(folder / "gate") as gate:
        yield gate


@pytest.fixture
async def start_sidecar() -> AsyncIterator[StartServing]:
    """Starts sidecars in this process; `await start_sidecar(max_open_batches=1)`.

    At the end of the test each must be idle: no batch open, no permit held.
    """
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Serving:
            settings = {"tools": str(TOOLS), "listen": "127.0.0.1:0", **settings}
            return await stack.enter_async_context(start_serving(settings))

        yield start


@pytest.fixture
async def sidecar(start_sidecar: StartServing) -> Serving:
    """A sidecar in this process that serves `TOOLS`."""
    serving: Serving = await start_sidecar()
    return serving


@pytest.fixture
def start_process(folder: Path) -> Iterator[StartProcess]:
    """Starts sidecars as processes; `start_process("unix", drain_timeout="2s")`.

    The first argument is "unix", "tcp" or an address; with `wait=False` it returns
    before the sidecar listens. They serve `TOOLS` where nothing else is said, and are
    killed at the end of the test. What they log must hold no sign of a bug.
    """
    started: list[SidecarProcess] = []
    with ExitStack() as stack:

        def start(kind: str = "unix", *, wait: bool = True, **settings: object) -> SidecarProcess:
            made = _process(kind, folder, len(started), {"tools": TOOLS, **settings})
            started.append(made)
            made.launch()
            stack.callback(made.kill)
            if wait:
                made.wait_until_listening()
            return made

        yield start
    assert [line for made in started for line in made.signs_of_bugs()] == []


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """As `folder`, for the whole session."""
    path = Path(tempfile.mkdtemp(prefix="sidecall-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def unix_sidecar(session_folder: Path) -> Iterator[SidecarProcess]:
    """One sidecar process on a unix socket that serves all tools, for the whole session."""
    with _process("unix", session_folder, 0, _ALL_TOOLS) as sidecar:
        yield sidecar


@pytest.fixture(scope="session")
def tcp_sidecar(session_folder: Path) -> Iterator[SidecarProcess]:
    """One sidecar process on a TCP port that serves all tools, for the whole session."""
    with _process("tcp", session_folder, 1, _ALL_TOOLS) as sidecar:
        yield sidecar


def _process(
    kind: str, folder: Path, number: int, settings: Mapping[str, object]
) -> SidecarProcess:
    address = {"unix": f"unix:{folder}/{number}.sock", "tcp": ""}.get(kind, kind)
    return SidecarProcess(address or free_address(), folder / f"{number}.log", **settings)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[str], grpc.aio.Channel]]:
    """Opens channels with the options of a client that sets none."""
    channels: list[grpc.aio.Channel] = []

    def connect(address: str) -> grpc.aio.Channel:
        channels.append(grpc.aio.insecure_channel(address))
        return channels[-1]

    yield connect
    for channel in channels:
        await channel.close()
