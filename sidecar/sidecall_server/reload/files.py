"""Notices that files have changed."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from sidecall_server.core.ports import Clock, Timer
from sidecall_server.reload.threads import Run, in_thread

Identity = tuple[str, int, int, int]
"""What tells one state of a file from another: where its links lead, its inode, the time of
its last change and its size."""


def identify(path: Path) -> Identity | None:
    """The state of a file; None where it cannot be read, or is no regular file."""
    try:
        target = os.path.realpath(path, strict=True)
        found = os.stat(target)  # noqa: PTH116  a Path per look and file costs more than the look
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode) or not os.access(target, os.R_OK):
        return None
    return target, found.st_ino, found.st_mtime_ns, found.st_size


def identify_all(paths: Iterable[Path]) -> dict[Path, Identity | None]:
    """The states of files."""
    return {path: identify(path) for path in paths}


class FileWatch:
    """Looks at files from time to time.

    Looking finds every change, on every file system and through symbolic links whose
    target is replaced, as for the files of a mounted ConfigMap. A change counts when two
    looks in a row find the same; a file that cannot be read at the moment has not changed.

    File systems are asked beside the event loop. A look that does not end, as on a network
    mount that hangs, is the last one until it does.
    """

    def __init__(
        self, clock: Clock, interval_s: float, changed: Callable[[], None], run: Run = in_thread
    ) -> None:
        """Takes how often to look and whom to tell.

        Args:
            clock: Time.
            interval_s: Seconds between two looks; 0 for none.
            changed: Called when files have changed.
            run: Calls what asks file systems.
        """
        self._clock = clock
        self._interval_ns = round(interval_s * 1e9)
        self._changed = changed
        self._run = run
        self._known: dict[Path, Identity | None] = {}
        self._seen: dict[Path, Identity | None] = {}
        self._timer: Timer | None = None
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        if self._interval_ns:
            when_ns = self._clock.now_ns() + self._interval_ns
            self._timer = self._clock.call_at(when_ns, self._on_time)

    def stop(self) -> None:
        """Looks no more, and waits for no look that is under way. Idempotent."""
        self._interval_ns = 0
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    async def wait_stopped(self) -> None:
        """Waits until nobody waits for a look any more; after `stop`."""
        if self._looking is not None:
            await asyncio.wait((self._looking,))

    async def watch(self, paths: Sequence[Path]) -> None:
        """Replaces the files that are looked at; new ones count from what they are now."""
        new = [path for path in paths if path not in self._known]
        found = await self._run(partial(identify_all, new))
        self._known = {path: found[path] if path in found else self._known[path] for path in paths}

    async def accept(self) -> None:
        """Takes the files as they are now for unchanged."""
        self._known = await self._run(partial(identify_all, list(self._known)))

    def _on_time(self) -> None:
        self.start()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="sidecall-file-watch")

    async def _look(self) -> None:
        try:
            known = self._known
            seen = await self._run(partial(identify_all, list(known)))
            if known is self._known:
                self._compare(seen)
        finally:
            self._looking = None

    def _compare(self, seen: dict[Path, Identity | None]) -> None:
        settled = seen == self._seen
        self._seen = seen
        changes = {path: now for path, now in seen.items() if now not in (None, self._known[path])}
        if settled and changes:
            # Told once: what follows from it may take longer than the time to the next look.
            self._known |= changes
            self._changed()
