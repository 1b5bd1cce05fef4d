"""Tools in force are replaced as a whole, and end when nobody uses them."""

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sidecall import tool
from sidecall._loader import ToolLoadError
from sidecall._modules import Modules
from sidecall_server.config import ConfigError, PolicyEntry, PolicyTable, Settings
from sidecall_server.core.call import BatchOptions, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import Success
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.engine import Engine
from sidecall_server.hosts.pool import HostPool
from sidecall_server.observability.clock import SystemClock
from sidecall_server.reload import served
from sidecall_server.reload.served import ServedTools

PATIENCE_S = 60
"""A bound for what happens at once; a slow machine may take long for it."""

TOOLS = """
import asyncio
from sidecall import lifespan, tool
import of_the_test

version = "VERSION"
of_the_test.events.append(f"import {version}")

@lifespan
async def resources():
    of_the_test.events.append(f"start {version}")
    await of_the_test.at_start(version)
    yield
    of_the_test.events.append(f"end {version}")

@tool
async def tell() -> str:
    return version

@tool
async def wait_VERSION() -> str:
    of_the_test.entered.set()
    await of_the_test.release.wait()
    return version

@tool
def block_VERSION() -> str:
    return version
"""

BAD_LIFESPAN = """
from sidecall import lifespan, tool

@lifespan
def resources():
    raise OSError("no database")
    yield

@tool
def unreachable() -> None: ...
"""

BAD_SCHEMA = """
from sidecall import Tool

schema = {"type": "object", "properties": {"a": {"type": "nothing"}}}
bad_schema = Tool(name="bad_schema", description="", input_schema=schema, call=print)
"""

PID_TOOL = """
import os
from sidecall import tool

@tool
def pid() -> int:
    return os.getpid()
"""


class World:
    """A file of tools, what serves them, and what has happened.

    Attributes:
        events: What the file did: executed, and each start and end of its lifespan.
    """

    def __init__(self, folder: Path, shared: Any) -> None:
        self.path = folder / "tools.py"
        self.shared = shared
        self.events: list[str] = shared.events
        self.engine = Engine(Limits(max_processes=1), SystemClock(asyncio.get_running_loop()))
        self.tools = ServedTools(self.engine, HostPool(self.engine.clock, 600.0))

    async def load(self, version: str | None = None, **policies: Any) -> None:
        """Puts a version of the file in force; the one that is there where None."""
        if version is not None:
            self.path.write_text(TOOLS.replace("VERSION", version))
        entries = tuple(PolicyEntry(name, values) for name, values in policies.items())
        await self.tools.put_in_force(
            Settings(tools=(str(self.path),), policies=PolicyTable(entries))
        )

    def begin(self, *names: str) -> "asyncio.Task[Batch]":
        calls = [ToolCall("", name) for name in names]
        return asyncio.create_task(self.engine.execute(calls, BatchOptions()))

    async def results(self, turn: "asyncio.Task[Batch]") -> list[str]:
        """The texts of a batch, whose calls must all succeed."""
        batch = await asyncio.wait_for(turn, PATIENCE_S)
        outcomes = [call.outcome for call in batch.calls.values()]
        return [outcome.text if isinstance(outcome, Success) else "" for outcome in outcomes]

    async def tell(self) -> str:
        """The version in force."""
        return (await self.results(self.begin("tell")))[0]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  what retires tells nobody
                await asyncio.sleep(0.005)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    shared: Any = ModuleType("of_the_test")
    shared.events = []
    shared.entered, shared.release = asyncio.Event(), asyncio.Event()

    async def at_start(version: str) -> None: ...

    shared.at_start = at_start
    monkeypatch.setitem(sys.modules, "of_the_test", shared)
    monkeypatch.setattr(sys, "path", list(sys.path))
    made = World(tmp_path, shared)
    yield made
    shared.release.set()
    await made.engine.stop(PATIENCE_S)
    await made.tools.stop(PATIENCE_S)


async def test_changed_code_is_executed_and_its_lifespan_started_before_it_serves(
    world: World,
) -> None:
    await world.load("one")
    before = world.engine.registry.revision
    in_force: list[str] = []

    async def at_start(version: str) -> None:
        in_force.append(await world.tell())

    world.shared.at_start = at_start
    await world.load("two")
    assert in_force == ["one"]
    assert await world.tell() == "two"
    assert world.engine.registry.revision != before
    await world.until(lambda: not world.tools.retiring)
    assert world.events == ["import one", "start one", "import two", "start two", "end one"]


async def test_a_call_of_a_removed_tool_finishes_and_its_lifespan_ends_then(world: World) -> None:
    await world.load("one")
    turn = world.begin("wait_one", "tell")
    await asyncio.wait_for(world.shared.entered.wait(), PATIENCE_S)
    await world.load("two")
    assert await world.results(world.begin("wait_one")) == [""]
    assert await world.tell() == "two"
    assert "end one" not in world.events
    assert world.tools.retiring == 1
    world.shared.release.set()
    assert await world.results(turn) == ["one", "one"]
    await world.until(lambda: not world.tools.retiring)
    assert world.events[-1] == "end one"


async def test_code_that_was_replaced_is_freed(world: World) -> None:
    await world.load("one")
    freed = asyncio.Event()
    weakref.finalize(Modules().load(str(world.path)).tell.function, freed.set)
    gc.freeze()
    try:
        await world.load("two")
        await asyncio.wait_for(freed.wait(), PATIENCE_S)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


async def test_several_sets_retire_when_each_is_unused(world: World) -> None:
    await world.load("one")
    turn = world.begin("wait_one")
    await asyncio.wait_for(world.shared.entered.wait(), PATIENCE_S)
    await world.load("two")
    await world.load("three")
    assert await world.tell() == "three"
    assert world.tools.retiring == 2
    world.shared.release.set()
    await turn
    await world.until(lambda: not world.tools.retiring)
    assert sorted(world.events[-2:]) == ["end one", "end two"]


async def test_other_policies_leave_code_and_lifespans_alone(world: World) -> None:
    await world.load("one")
    turn = world.begin("wait_one")
    await asyncio.wait_for(world.shared.entered.wait(), PATIENCE_S)
    before = world.engine.registry.revision
    await world.load(tell={"max_concurrency": 3}, block_one={"timeout": 2.0})
    assert world.engine.registry.revision != before
    specs = {name: entry.spec for name, entry in world.engine.registry.tools.items()}
    assert specs["tell"].max_concurrency == 3
    assert (specs["block_one"].timeout_s, specs["block_one"].groups) == (2.0, ("threads",))
    world.shared.release.set()
    assert await world.results(turn) == ["one"]
    await world.load()
    assert world.engine.registry.revision == before
    assert world.events == ["import one", "start one"]


async def test_a_tool_moves_where_its_policy_says_so(world: World) -> None:
    world.path.write_text(PID_TOOL)
    await world.load()
    (here,) = await world.results(world.begin("pid"))
    await world.load(pid={"isolation": "process"})
    (elsewhere,) = await world.results(world.begin("pid"))
    assert elsewhere not in ("", here)
    await world.load()
    assert await world.results(world.begin("pid")) == [here]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise OSError('no')\n", r"tools\.py:1"),
        ("def f(:\n", r"SyntaxError.*line 1"),
        ("x = 1\n", "no tools in it"),
        ("def f() -> None: ...\n\n\ndef g(:\n", r"SyntaxError.*line 4"),
        (BAD_LIFESPAN, "its lifespan failed: OSError: no database"),
        (BAD_SCHEMA, "bad_schema"),
    ],
)
async def test_what_cannot_be_loaded_changes_nothing(world: World, text: str, message: str) -> None:
    await world.load("one")
    revision, tools = world.engine.registry.revision, world.engine.registry.tools
    modules = dict(sys.modules)
    world.path.write_text(text)
    with pytest.raises((ToolLoadError, ConfigError), match=message):
        await world.load()
    assert world.engine.registry.tools is tools
    assert world.engine.registry.revision == revision
    assert {name for name in modules if sys.modules.get(name) is not modules[name]} == set()
    assert await world.tell() == "one"
    assert world.events == ["import one", "start one"]
    await world.load("two")
    assert await world.tell() == "two"


async def test_a_module_is_executed_again_only_where_its_file_has_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = world.path.parent / "of_served_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tools.py").write_text(TOOLS.replace("VERSION", "one"))
    monkeypatch.chdir(package.parent)

    async def load(most: int) -> None:
        policies = PolicyTable((PolicyEntry("tell", {"max_concurrency": most}),))
        await world.tools.put_in_force(Settings(tools=("of_served_test.tools",), policies=policies))

    await load(1)
    await load(2)
    assert world.engine.registry.tools["tell"].spec.max_concurrency == 2
    assert world.events == ["import one", "start one"]
    (package / "tools.py").write_text(TOOLS.replace("VERSION", "two"))
    await load(2)
    assert await world.tell() == "two"


async def test_what_was_started_of_tools_that_are_refused_ends(world: World) -> None:
    await world.load("one")
    bad = world.path.with_name("bad.py")
    for version, text in (("two", BAD_LIFESPAN), ("three", BAD_SCHEMA)):
        world.path.write_text(TOOLS.replace("VERSION", version))
        bad.write_text(text)
        with pytest.raises((ToolLoadError, ConfigError), match=r"no database|bad_schema"):
            await world.tools.put_in_force(Settings(tools=(str(world.path), str(bad))))
        assert world.events[-3:] == [f"import {version}", f"start {version}", f"end {version}"]
    assert await world.tell() == "one"


async def test_a_policy_that_is_wrong_changes_nothing(world: World) -> None:
    await world.load("one")
    for version in (None, "two"):
        with pytest.raises(ConfigError, match="nowhere"):
            await world.load(version, tell={"limits": ("nowhere",)})
    assert await world.tell() == "one"
    assert "start two" not in world.events


async def test_tools_that_never_start_leave_the_old_ones_in_force(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.load("one")
    monkeypatch.setattr(served, "_START_S", 0.05)

    async def at_start(version: str) -> None:
        if version == "two":
            await asyncio.Event().wait()

    world.shared.at_start = at_start
    with pytest.raises(ToolLoadError, match=r"had not started after 0\.05 s"):
        await world.load("two")
    assert await world.tell() == "one"
    await world.load("three")
    assert await world.tell() == "three"


async def test_a_cancelled_reload_leaves_the_old_tools_in_force(world: World) -> None:
    await world.load("one")
    starting = asyncio.Event()

    async def at_start(version: str) -> None:
        starting.set()
        await asyncio.Event().wait()

    world.shared.at_start = at_start
    reload = asyncio.create_task(world.load("two"))
    await asyncio.wait_for(starting.wait(), PATIENCE_S)
    reload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reload
    assert await world.tell() == "one"


async def test_stopping_ends_what_serves_and_what_retires(world: World) -> None:
    await world.load("one")
    turn = world.begin("wait_one")
    await asyncio.wait_for(world.shared.entered.wait(), PATIENCE_S)
    await world.load("two")
    await world.tools.stop(PATIENCE_S)
    assert world.tools.retiring == 0
    assert sorted(world.events[-2:]) == ["end one", "end two"]
    world.shared.release.set()
    await turn


async def test_given_tools_stay_beside_those_that_change(world: World) -> None:
    @tool
    async def given() -> str:
        return "given"

    world.tools = ServedTools(world.engine, HostPool(world.engine.clock, 600.0), (given,))
    for version in ("one", "two"):
        await world.load(version)
        assert await world.results(world.begin("given", "tell")) == ["given", version]
