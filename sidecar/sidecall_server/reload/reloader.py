"""Reloads: when, one at a time, and what became of them."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Protocol

from sidecall._loader import ToolLoadError
from sidecall_server.config import OPTIONS, ConfigError, Settings
from sidecall_server.core.defaults import Limits
from sidecall_server.core.ports import Clock
from sidecall_server.reload.files import FileWatch
from sidecall_server.reload.served import source_files
from sidecall_server.reload.threads import Run, in_thread

_log = logging.getLogger("sidecall")

_APPLIED = ("config", "tools")
"""Options that a reload puts in force."""


class Tools(Protocol):
    """The tools in force."""

    async def put_in_force(self, settings: Settings) -> None:
        """Serves the tools of some settings; all of it, or nothing changes."""

    @property
    def retiring(self) -> int:
        """Sets of tools that were replaced and are still used."""


@dataclass(frozen=True, slots=True)
class ReloadStatistics:
    """What became of reloads.

    Attributes:
        succeeded: Reloads that put something in force.
        failed: Reloads that changed nothing.
        last_error: Why the last one failed; empty where it did not, or none was.
        last_unix_ns: When the last one ended, in nanoseconds since the Unix epoch; 0 for never.
        retiring: Sets of tools that were replaced and are still used.
    """

    succeeded: int
    failed: int
    last_error: str
    last_unix_ns: int
    retiring: int


class Reloader:
    """Puts changed settings and tools in force while the sidecar serves.

    One reload at a time: however many are asked for during one, one follows. One that fails
    changes nothing.
    """

    def __init__(
        self,
        tools: Tools,
        settings: Settings,
        load: Callable[[], Settings],
        clock: Clock,
        run: Run = in_thread,
    ) -> None:
        """Takes what is reloaded, and how.

        Args:
            tools: The tools.
            settings: The settings of the start.
            load: Reads the settings again.
            clock: Time.
            run: Calls what asks file systems.
        """
        self._tools = tools
        self._started_with = settings
        self._load = load
        self._clock = clock
        self._call = run
        self._watch = FileWatch(clock, settings.watch_interval_s, self._on_change, run)
        self._task: asyncio.Task[None] | None = None
        self._wanted = ""
        self._serving = False
        self._closed = False
        self._succeeded = 0
        self._failed = 0
        self._last_error = ""
        self._last_unix_ns = 0

    async def observe(self) -> None:
        """Takes the files of the settings, as they are now, for what is being loaded.

        The settings were read before that: where they read otherwise now, a reload follows
        the start.
        """
        await self._watch_files(self._started_with)
        if self._started_with.files and not await self._reads_as_before():
            self._on_change()

    async def start(self) -> None:
        """Begins to look at files, and to reload. What was asked for before follows."""
        await self._watch_files(self._started_with)
        if self._closed:
            return
        self._serving = True
        self._watch.start()
        if self._wanted:
            self.request(self._wanted)

    def request(self, reason: str) -> None:
        """Asks for a reload; the reason is for the log. After `close` nothing happens."""
        if self._closed:
            return
        self._wanted = reason
        if self._serving and self._task is None:
            self._task = asyncio.create_task(self._run(), name="sidecall-reload")

    def close(self) -> None:
        """Ends a reload that is under way, and refuses others. Idempotent."""
        self._closed = True
        self._watch.stop()
        if self._task is not None:
            self._task.cancel()

    async def wait_closed(self) -> None:
        """Waits until nothing is being loaded any more."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        await self._watch.wait_stopped()

    def statistics(self) -> ReloadStatistics:
        """What became of reloads so far."""
        return ReloadStatistics(
            self._succeeded,
            self._failed,
            self._last_error,
            self._last_unix_ns,
            self._tools.retiring,
        )

    async def _watch_files(self, settings: Settings) -> None:
        sources = await self._call(partial(source_files, settings))
        await self._watch.watch([*settings.files, *sources])

    async def _reads_as_before(self) -> bool:
        try:
            return await self._call(self._load) == self._started_with
        except ConfigError:
            return False

    def _on_change(self) -> None:
        self.request("a file has changed")

    async def _run(self) -> None:
        try:
            while self._wanted:
                reason, self._wanted = self._wanted, ""
                _log.info("reloading: %s", reason)
                await self._reload()
        finally:
            self._task = None

    async def _reload(self) -> None:
        try:
            await self._put_in_force()
        except (ConfigError, ToolLoadError) as error:
            _log.error("reload failed, what was in force stays: %s", error)
            self._fail(str(error))
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            # Signals raise nothing while it serves: the code of a tool did.
            _log.exception("reload failed for an unexpected reason, what was in force stays")
            self._fail(f"{type(error).__name__}: {error}")
        else:
            self._succeeded += 1
            self._last_error = ""
            self._last_unix_ns = self._clock.unix_ns()

    def _fail(self, text: str) -> None:
        self._failed += 1
        self._last_error = text
        self._last_unix_ns = self._clock.unix_ns()

    async def _put_in_force(self) -> None:
        # Before they are read: a change while they are read is to be found.
        await self._watch.accept()
        settings = await self._call(self._load)
        await self._watch_files(settings)
        if self._started_with.tools and not (settings.tools or settings.hosted):
            raise ConfigError("no tools are named any more")
        await self._tools.put_in_force(settings)
        await self._watch_files(settings)  # files of modules may be known only now
        kept = list(_changed(self._started_with, settings))
        if kept:
            _log.warning("restart to apply the changes of: %s", ", ".join(kept))


def _changed(before: Settings, after: Settings) -> Iterator[str]:
    """Names, as people know them, of settings that differ and hold until a restart."""
    differing = [
        name
        for name in OPTIONS
        if name not in _APPLIED and getattr(before, name) != getattr(after, name)
    ]
    differing += [
        item.name
        for item in fields(Limits)
        if getattr(before.limits, item.name) != getattr(after.limits, item.name)
    ]
    for name in differing:
        if after.origin(name).kind != "default":
            yield after.where(name)
        elif before.origin(name).kind != "default":
            yield f"{name.removesuffix('_s')} (no longer given)"
