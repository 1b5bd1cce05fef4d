"""When a file has changed, and when it only seems so."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

import pytest
from tests.support.at_once import at_once
from tests.support.clock import FakeClock, settle

from sidecall_server.reload.files import FileWatch, identify
from sidecall_server.reload.threads import Run, in_thread

INTERVAL_S = 1.0

T = TypeVar("T")


class Watched:
    """A watch over some files, and the changes that it told."""

    def __init__(self, *paths: Path, run: Run = at_once) -> None:
        self.clock = FakeClock()
        self.changes = 0
        self.watch = FileWatch(self.clock, INTERVAL_S, self._on_change, run)
        self._paths = paths

    async def start(self) -> Self:
        """Begins to look."""
        await self.watch.watch(self._paths)
        self.watch.start()
        return self

    def _on_change(self) -> None:
        self.changes += 1

    async def looks(self, count: int) -> int:
        """Lets so many looks pass; returns how many changes they found."""
        before = self.changes
        await self.clock.advance(count * INTERVAL_S)
        return self.changes - before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "tools.py"
    made.write_text("one")
    return made


def overwrite(path: Path, text: str = "other") -> None:
    path.write_text(text)


def move(path: Path, target: Path) -> None:
    path.rename(target)


def replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("two")
    new.rename(path)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [overwrite, replace, touch])
async def test_a_change_is_told_once_when_two_looks_find_the_same(
    path: Path, change: Callable[[Path], None]
) -> None:
    watched = await Watched(path).start()
    assert await watched.looks(3) == 0
    change(path)
    assert await watched.looks(1) == 0
    assert await watched.looks(1) == 1
    assert await watched.looks(3) == 0


async def test_a_file_that_is_still_being_written_has_not_changed(path: Path) -> None:
    watched = await Watched(path).start()
    for size in range(4, 9):
        overwrite(path, "x" * size)
        assert await watched.looks(1) == 0
    assert await watched.looks(1) == 1


async def test_a_file_that_is_away_has_not_changed(path: Path) -> None:
    watched = await Watched(path).start()
    move(path, path.with_suffix(".old"))
    assert await watched.looks(5) == 0
    move(path.with_suffix(".old"), path)
    assert await watched.looks(5) == 0
    replace(path)
    assert await watched.looks(2) == 1


async def test_a_file_that_comes_into_being_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "later.py"
    watched = await Watched(path).start()
    assert await watched.looks(2) == 0
    path.write_text("")
    assert await watched.looks(2) == 1


async def test_a_volume_is_swapped_as_kubernetes_does_it(tmp_path: Path) -> None:
    def write(version: str, text: str) -> None:
        (tmp_path / f"..{version}").mkdir()
        for name in ("sidecall.yaml", "tools.py"):
            (tmp_path / f"..{version}" / name).write_text(text)
            os.utime(tmp_path / f"..{version}" / name, ns=(1, 1))

    def swap(version: str) -> None:
        (tmp_path / "..data_tmp").symlink_to(f"..{version}")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    write("one", "same")
    swap("one")
    paths = [tmp_path / "sidecall.yaml", tmp_path / "tools.py"]
    for path in paths:
        path.symlink_to(f"..data/{path.name}")
    watched = await Watched(*paths).start()
    write("two", "same")
    assert await watched.looks(2) == 0
    swap("two")
    for path in (tmp_path / "..one").iterdir():
        path.unlink()
    (tmp_path / "..one").rmdir()
    assert await watched.looks(2) == 1
    assert await watched.looks(3) == 0


async def test_accepted_files_have_not_changed(path: Path) -> None:
    watched = await Watched(path).start()
    overwrite(path)
    await watched.watch.accept()
    assert await watched.looks(3) == 0


async def test_other_files_are_watched_from_what_they_are(path: Path, tmp_path: Path) -> None:
    watched = await Watched(path).start()
    other = tmp_path / "other.py"
    other.write_text("")
    overwrite(path)
    await watched.watch.watch([path, other])
    assert await watched.looks(2) == 1
    await watched.watch.watch([other])
    replace(path)
    assert await watched.looks(3) == 0
    overwrite(other)
    assert await watched.looks(2) == 1


async def test_a_watch_ends(path: Path) -> None:
    watched = await Watched(path).start()
    await watched.looks(1)
    watched.watch.stop()
    watched.watch.stop()
    overwrite(path)
    assert await watched.looks(5) == 0
    assert watched.clock.armed == 0


class Mount:
    """A file system that answers when the test says so.

    Attributes:
        looks: Looks that were begun.
        hangs: Whether it does not answer.
    """

    def __init__(self) -> None:
        self.looks = 0
        self.hangs = False
        self.answer = asyncio.Event()

    async def __call__(self, function: Callable[[], T], /) -> T:
        """Calls a function."""
        self.looks += 1
        found = function()
        if self.hangs:
            await self.answer.wait()
        return found


async def test_a_look_that_hangs_is_the_only_one_and_others_follow_it(path: Path) -> None:
    mount = Mount()
    watched = await Watched(path, run=mount).start()
    mount.hangs, mount.looks = True, 0
    assert await watched.looks(5) == 0
    assert mount.looks == 1
    mount.hangs = False
    mount.answer.set()
    await settle()
    overwrite(path)
    assert await watched.looks(2) == 1


async def test_what_was_found_before_files_were_accepted_does_not_count(path: Path) -> None:
    mount = Mount()
    watched = await Watched(path, run=mount).start()
    await watched.looks(1)
    mount.hangs = True
    await watched.looks(1)
    mount.hangs = False
    overwrite(path)
    await watched.watch.accept()
    mount.answer.set()
    assert await watched.looks(4) == 0


async def test_a_watch_ends_although_a_look_hangs(path: Path) -> None:
    mount = Mount()
    watched = await Watched(path, run=mount).start()
    mount.hangs = True
    await watched.looks(1)
    watched.watch.stop()
    await watched.watch.wait_stopped()
    assert watched.clock.armed == 0


async def test_file_systems_are_asked_beside_the_event_loop(path: Path) -> None:
    asked: list[threading.Thread] = []

    def identify_here() -> object:
        asked.append(threading.current_thread())
        return identify(path)

    assert await in_thread(identify_here) == identify(path)
    assert asked[0] is not threading.main_thread()
    assert asked[0].daemon


async def test_a_thread_is_not_waited_for_by_who_is_cancelled() -> None:
    begun, door = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang() -> None:
        loop.call_soon_threadsafe(begun.set)
        door.wait()

    waits = asyncio.ensure_future(in_thread(hang))
    await begun.wait()
    waits.cancel()
    await asyncio.wait((waits,))
    assert waits.cancelled()
    door.set()


@pytest.mark.parametrize("error", [OSError("away"), SystemExit(3)])
async def test_what_a_thread_raises_is_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await in_thread(fail)
    assert caught.value is error


async def test_without_an_interval_nothing_is_looked_at(path: Path) -> None:
    clock = FakeClock()
    watch = FileWatch(clock, 0.0, lambda: None)
    await watch.watch([path])
    watch.start()
    assert clock.armed == 0


def test_what_is_no_file_has_no_identity(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "link", tmp_path / "pipe"):
        assert identify(path) is None
