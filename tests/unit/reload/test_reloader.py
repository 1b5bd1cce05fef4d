"""When reloads happen, and what they leave in force."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.support.at_once import at_once
from tests.support.clock import FakeClock, settle

from sidecall._loader import ToolLoadError
from sidecall_server.config import ConfigError, Origin, Settings
from sidecall_server.core.defaults import Limits
from sidecall_server.reload.reloader import Reloader, ReloadStatistics


class FakeTools:
    """Tools that take as long as the test says, and fail as it says."""

    def __init__(self) -> None:
        self.tried: list[Settings] = []
        self.in_force: list[Settings] = []
        self.cancelled = 0
        self.error: Exception | None = None
        self.door = asyncio.Event()
        self.door.set()
        self.retiring = 0

    async def put_in_force(self, settings: Settings) -> None:
        """Waits at the door."""
        self.tried.append(settings)
        try:
            await self.door.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        self.in_force.append(settings)


class Bench:
    """A reloader on a fake clock.

    Attributes:
        settings: What the next reload reads; an exception is raised.
    """

    def __init__(self, settings: Settings) -> None:
        self.clock = FakeClock()
        self.tools = FakeTools()
        self.settings: Settings | Exception = settings
        self.reads = 0
        self.reloader = Reloader(self.tools, settings, self._load, self.clock, at_once)

    def _load(self) -> Settings:
        self.reads += 1
        if isinstance(self.settings, Exception):
            raise self.settings
        return self.settings

    async def request(self, reason: str = "a test") -> None:
        self.reloader.request(reason)
        await settle()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "tools.py"
    made.write_text("one")
    return made


@pytest.fixture
async def bench(path: Path) -> AsyncIterator[Bench]:
    made = Bench(Settings(tools=(str(path),)))
    await made.reloader.observe()
    await made.reloader.start()
    yield made
    made.reloader.close()
    await made.reloader.wait_closed()


async def test_a_reload_puts_in_force_what_is_read_then(bench: Bench, path: Path) -> None:
    settings = Settings(tools=(str(path), "other.py"))
    bench.settings = settings
    await bench.request()
    assert bench.tools.in_force == [settings]
    bench.tools.retiring = 2
    now_ns = bench.clock.unix_ns()
    assert bench.reloader.statistics() == ReloadStatistics(1, 0, "", now_ns, retiring=2)


async def test_requests_during_a_reload_cause_one_more(bench: Bench) -> None:
    bench.tools.door.clear()
    await bench.request()
    for _ in range(3):
        await bench.request()
    assert bench.reads == len(bench.tools.tried) == 1
    bench.tools.door.set()
    await settle()
    assert bench.reads == len(bench.tools.in_force) == 2
    await bench.request()
    assert bench.reads == 3


@pytest.mark.parametrize(
    "error", [ConfigError("sidecall.yaml:3: wrong"), ToolLoadError("tools.py: wrong")]
)
@pytest.mark.parametrize("when", ["read", "load"])
async def test_one_that_fails_is_told_in_one_line_and_counted(
    bench: Bench, caplog: pytest.LogCaptureFixture, error: Exception, when: str
) -> None:
    good, bench.tools.error = bench.settings, error
    if when == "read":
        bench.settings = error
    await bench.request()
    assert bench.tools.in_force == []
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == f"reload failed, what was in force stays: {error}"
    assert record.exc_info is None
    statistics = bench.reloader.statistics()
    assert (statistics.succeeded, statistics.failed) == (0, 1)
    assert (statistics.last_error, statistics.last_unix_ns) == (str(error), bench.clock.unix_ns())
    bench.settings, bench.tools.error = good, None
    await bench.request()
    statistics = bench.reloader.statistics()
    assert (statistics.succeeded, statistics.failed, statistics.last_error) == (1, 1, "")


async def test_an_unexpected_failure_changes_nothing_either(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.tools.error = ZeroDivisionError("a bug")
    await bench.request()
    assert bench.reloader.statistics().last_error == "ZeroDivisionError: a bug"
    assert "Traceback" in caplog.text
    bench.tools.error = None
    await bench.request()
    assert len(bench.tools.in_force) == 1


async def test_settings_without_tools_are_refused(bench: Bench) -> None:
    bench.settings = Settings()
    await bench.request()
    assert bench.tools.tried == []
    assert bench.reloader.statistics().last_error == "no tools are named any more"


async def test_what_holds_until_a_restart_is_named(
    bench: Bench, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench.settings = Settings(
        tools=(str(path),),
        listen=("127.0.0.1:1",),
        drain_timeout_s=1.0,
        limits=Limits(max_concurrency=7, max_batch_concurrency=7),
        origins={
            "listen": Origin("flag", "--listen"),
            "max_concurrency": Origin("file", "sidecall.yaml:3"),
        },
    )
    await bench.request()
    assert len(bench.tools.in_force) == 1
    given = "--listen, sidecall.yaml:3: max_concurrency"
    assert f"restart to apply the changes of: {given}\n" in caplog.text


async def test_what_is_no_longer_given_is_named(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    origins = {"drain_timeout_s": Origin("file", "sidecall.yaml:2")}
    bench = Bench(Settings(tools=(str(path),), drain_timeout_s=1.0, origins=origins))
    await bench.reloader.start()
    bench.settings = Settings(tools=(str(path),))
    await bench.request()
    bench.reloader.close()
    assert "restart to apply the changes of: drain_timeout (no longer given)\n" in caplog.text


def overwrite(path: Path, text: str = "something else") -> None:
    path.write_text(text)


def overwrite_twice(path: Path) -> None:
    path.write_text("something")
    path.write_text("something else")


@pytest.mark.parametrize("change", [overwrite, overwrite_twice])
async def test_a_changed_file_is_loaded_again_once(
    bench: Bench, path: Path, change: Callable[[Path], None]
) -> None:
    change(path)
    await bench.clock.advance(5)
    assert len(bench.tools.in_force) == 1


async def test_a_failed_reload_waits_for_the_next_change(bench: Bench, path: Path) -> None:
    bench.tools.error = ToolLoadError("wrong")
    overwrite(path)
    await bench.clock.advance(5)
    assert len(bench.tools.tried) == 1
    bench.tools.error = None
    overwrite(path, "repaired")
    await bench.clock.advance(5)
    assert len(bench.tools.in_force) == 1


async def test_a_file_that_only_the_refused_settings_name_is_watched(
    bench: Bench, path: Path
) -> None:
    new = path.with_name("new.py")
    new.write_text("broken")
    bench.settings = Settings(tools=(str(path), str(new)))
    bench.tools.error = ToolLoadError("new.py: broken")
    await bench.request()
    bench.tools.error = None
    new.write_text("repaired")
    await bench.clock.advance(2)
    assert bench.tools.in_force == [bench.settings]


async def test_a_change_during_a_reload_causes_another(bench: Bench, path: Path) -> None:
    bench.tools.door.clear()
    await bench.request()
    overwrite(path)
    await bench.clock.advance(3)
    bench.tools.door.set()
    await bench.clock.advance(3)
    assert len(bench.tools.in_force) == 2


async def test_requests_before_the_start_are_obeyed_after_it(path: Path) -> None:
    bench = Bench(Settings(tools=(str(path),)))
    await bench.request()
    assert bench.tools.tried == []
    await bench.reloader.start()
    await settle()
    assert len(bench.tools.in_force) == 1
    bench.reloader.close()


@pytest.mark.parametrize("found", ["other settings", "a mistake", "the same"])
async def test_a_change_between_reading_and_watching_is_found(path: Path, found: str) -> None:
    read = Settings(tools=(str(path),), files=(path,))
    bench = Bench(read)
    if found == "other settings":
        bench.settings = Settings(tools=(str(path), "other.py"), files=(path,))
    elif found == "a mistake":
        bench.settings = ConfigError("sidecall.yaml:3: wrong")
    await bench.reloader.observe()
    assert bench.tools.tried == []
    await bench.reloader.start()
    await settle()
    bench.reloader.close()
    statistics = bench.reloader.statistics()
    expected = {"other settings": (1, 0), "a mistake": (0, 1), "the same": (0, 0)}
    assert (statistics.succeeded, statistics.failed) == expected[found]


async def test_closing_ends_a_reload_and_refuses_others(bench: Bench, path: Path) -> None:
    bench.tools.door.clear()
    await bench.request()
    await bench.request()
    bench.reloader.close()
    await bench.reloader.wait_closed()
    assert (bench.tools.cancelled, bench.tools.in_force) == (1, [])
    await bench.request()
    overwrite(path)
    await bench.clock.advance(5)
    assert len(bench.tools.tried) == 1
    assert bench.clock.armed == 0
    assert bench.reloader.statistics().failed == 0
