"""Tools and policies are replaced while the sidecar serves: all of them, or none."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals

import grpc
import pytest
from tests.interaction.conftest import StartProcess
from tests.support.batches import batch, call, reasons
from tests.support.gate import WAIT_S, Gate
from tests.support.serving import stub_of
from tests.support.sidecar import SidecarProcess

from sidecall.v1 import tool_service_pb2

Connect = Callable[[str], grpc.aio.Channel]

_POLL_S = 0.01

CONFIG = """
watch_interval: {watch}
tools:
  - python: tools.py
policies:
  tell: {{max_concurrency: {most}}}
"""

TOOLS = """
import asyncio
from sidecall import lifespan, tool

@lifespan
async def resources():
    reader, writer = await asyncio.open_unix_connection({gate!r})
    writer.write(b"lifespan of {version}\\n")
    await reader.readline()
    yield
    writer.write(b"end\\n")
    writer.close()

@tool
async def tell() -> str:
    return "{version}"

@tool
async def hold_{version}() -> str:
    reader, writer = await asyncio.open_unix_connection({gate!r})
    writer.write(b"call of {version}\\n")
    await reader.readline()
    writer.close()
    return "{version}"
"""

PLAIN_TOOL = """
from sidecall import tool

@tool
def tell() -> str:
    return "{version}"
"""


ENDS = """
import asyncio
from sidecall import lifespan, tool

@lifespan
async def resources():
    raise {error}
    yield

@tool
def tell() -> str:
    return "never"
"""


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


class World:
    """A sidecar process with a configuration file, and a client of it."""

    def __init__(self, folder: Path, start: StartProcess, connect: Connect) -> None:
        self.config = folder / "sidecall.yaml"
        self.tools = folder / "tools.py"
        self._start = start
        self._connect = connect
        self.sidecar: SidecarProcess

    def configure(self, most: int = 1, watch: str = "0") -> None:
        """Writes the configuration file."""
        self.config.write_text(CONFIG.format(most=most, watch=watch))

    def write_plain(self, version: str) -> None:
        """Writes a file of tools that needs nothing."""
        self.tools.write_text(PLAIN_TOOL.format(version=version))

    def write(self, version: str, gate: Gate) -> None:
        """Writes a file of tools whose lifespan and calls wait at the gate."""
        self.tools.write_text(TOOLS.format(version=version, gate=gate.path))

    def serve(self, *, wait: bool = True) -> None:
        """Starts the process."""
        self.sidecar = self._start("unix", tools="", config=self.config, wait=wait)
        self.stub = stub_of(self._connect(self.sidecar.address))

    async def tell(self) -> str:
        """The version that answers."""
        response = await self.stub.ExecuteBatch(batch(call("tell")), timeout=WAIT_S)
        return str(response.results[0].content)

    async def listed(self) -> tool_service_pb2.ListToolsResponse:
        """The tools and their revision."""
        request = tool_service_pb2.ListToolsRequest()
        response: tool_service_pb2.ListToolsResponse = await self.stub.ListTools(request)
        return response

    async def logged(self, text: str, times: int = 1) -> str:
        """Waits until the process has logged a text; returns the line."""
        end_s = time.monotonic() + WAIT_S
        while True:
            lines = [line for line in self.sidecar.log().splitlines() if text in line]
            if len(lines) >= times:
                return lines[times - 1]
            assert time.monotonic() < end_s, f"{text!r} was not logged:\n{self.sidecar.log()}"
            await asyncio.sleep(_POLL_S)


@pytest.fixture
def world(folder: Path, start_process: StartProcess, connect: Connect) -> World:
    return World(folder, start_process, connect)


async def test_a_signal_replaces_tools_and_a_call_of_a_removed_one_finishes(
    world: World, gate: Gate
) -> None:
    world.configure()
    world.write("one", gate)
    world.serve(wait=False)
    old_lifespan = await gate.arrived("lifespan of one")
    old_lifespan.release()
    await asyncio.to_thread(world.sidecar.wait_until_listening)
    before = (await world.listed()).revision
    held = world.stub.ExecuteBatch(batch(call("hold_one"), call("tell")), timeout=WAIT_S)
    in_flight = await gate.arrived("call of one")

    world.write("two", gate)
    world.sidecar.signal(SIGHUP)
    new_lifespan = await gate.arrived("lifespan of two")
    assert await world.tell() == "one"
    assert (await world.listed()).revision == before
    new_lifespan.release()
    await world.logged("2 tools in force; added: hold_two; removed: hold_one")

    assert await world.tell() == "two"
    listed = await world.listed()
    assert [tool.name for tool in listed.tools] == ["hold_two", "tell"]
    assert listed.revision != before
    unknown = await world.stub.ExecuteBatch(batch(call("hold_one")), timeout=WAIT_S)
    assert reasons(unknown.results) == ["TOOL_NOT_FOUND"]
    assert not held.done()
    in_flight.release()
    assert [result.content for result in (await held).results] == ["one", "one"]
    assert await old_lifespan.said() == "end"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda world: world.config.write_text("tools:\n  - python: tools.py\n policies: [\n"),
         r"sidecall.yaml:3"),
        (lambda world: world.config.write_text("tools:\n  - python: tools.py\npolices: {}\n"),
         r"sidecall.yaml:3"),
        (lambda world: world.config.write_text("watch_interval: 0\n"), "no tools are named"),
        (lambda world: world.config.write_text(
            "tools: [{python: tools.py}]\nhealth_listen: [nowhere]\n"
         ), "sidecall.yaml:2: health_listen: 'nowhere' is"),
        (lambda world: world.tools.write_text("import os\n\nraise OSError('no')\n"), "tools.py:3"),
        (lambda world: world.tools.write_text("x = 1\ndef f(:\n"), "tools.py, line 2"),
        (lambda world: world.tools.unlink(), "tools.py: no such file"),
        (lambda world: world.config.unlink(), "sidecall.yaml: "),
        (lambda world: replace_by_pipe(world.config), "sidecall.yaml: is not a regular file"),
        (lambda world: replace_by_pipe(world.tools), "tools.py: is not a regular file"),
        (lambda world: world.tools.write_text("raise KeyboardInterrupt\n"), "tools.py:1"),
        (lambda world: world.tools.write_text("raise SystemExit\n"), "tools.py:1"),
        (lambda world: world.tools.write_text("raise GeneratorExit\n"), "tools.py:1"),
        (lambda world: world.tools.write_text(ENDS.format(error="KeyboardInterrupt")),
         "its lifespan failed: KeyboardInterrupt"),
        (lambda world: world.tools.write_text(ENDS.format(error="asyncio.CancelledError")),
         "a lifespan ended before it had started"),
        (lambda world: world.tools.unlink(), "sidecall.yaml:4)"),
    ],
)  # fmt: skip
async def test_what_is_wrong_keeps_what_was_in_force(
    world: World, spoil: Callable[[World], object], message: str
) -> None:
    world.configure()
    world.write_plain("one")
    world.serve()
    before = (await world.listed()).revision
    spoil(world)
    world.sidecar.signal(SIGHUP)
    assert message in await world.logged("reload failed, what was in force stays: ")
    assert await world.tell() == "one"
    assert (await world.listed()).revision == before

    for path in (world.config, world.tools):
        path.unlink(missing_ok=True)
    world.configure(most=2)
    world.write_plain("two")
    world.sidecar.signal(SIGHUP)
    await world.logged("1 tool in force")
    assert await world.tell() == "two"
    assert (await world.listed()).revision != before


async def test_changed_files_are_found_without_a_signal(world: World) -> None:
    world.configure(watch="50ms")
    world.write_plain("one")
    world.serve()
    before = (await world.listed()).revision
    world.configure(most=7, watch="50ms")
    await world.logged("1 tool in force", times=1)
    listed = await world.listed()
    assert listed.revision != before
    assert listed.tools[0].limits.max_concurrency == 7
    world.write_plain("two")
    await world.logged("1 tool in force", times=2)
    assert await world.tell() == "two"


async def test_a_mounted_volume_is_followed(world: World, folder: Path) -> None:
    def publish(version: str) -> None:
        data = folder / f"..{version}"
        data.mkdir()
        (data / "sidecall.yaml").write_text(CONFIG.format(most=1, watch="50ms"))
        (data / "tools.py").write_text(PLAIN_TOOL.format(version=version))
        (folder / "..data_tmp").symlink_to(data.name)
        (folder / "..data_tmp").rename(folder / "..data")

    publish("one")
    for path in (world.config, world.tools):
        path.symlink_to(f"..data/{path.name}")
    world.serve()
    assert await world.tell() == "one"
    publish("two")
    await world.logged("1 tool in force")
    assert await world.tell() == "two"


async def test_settings_that_hold_until_a_restart_are_named(world: World) -> None:
    world.configure()
    world.write_plain("one")
    world.serve()
    with world.config.open("a") as config:
        config.write("max_threads: 3\ndrain_timeout: 3s\n")
    world.sidecar.signal(SIGHUP)
    line = await world.logged("restart to apply")
    assert "sidecall.yaml:7: max_threads" in line
    assert "sidecall.yaml:8: drain_timeout" in line
    assert "listen" not in line
    assert "batch" not in line


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
async def test_a_stop_ends_a_reload(world: World, gate: Gate, number: Signals) -> None:
    world.configure()
    world.write_plain("one")
    world.serve()
    world.write("two", gate)
    world.sidecar.signal(SIGHUP)
    starting = await gate.arrived("lifespan of two")
    world.sidecar.signal(number)
    assert await world.sidecar.ended() == 0
    await starting.left()
    assert "stopped" in world.sidecar.log()


async def test_a_signal_during_the_start_is_obeyed_after_it(world: World, gate: Gate) -> None:
    world.configure()
    world.write("one", gate)
    world.serve(wait=False)
    starting = await gate.arrived("lifespan of one")
    world.write_plain("two")
    world.sidecar.signal(SIGHUP)
    starting.release()
    await world.logged("1 tool in force; removed: hold_one")
    assert await world.tell() == "two"
