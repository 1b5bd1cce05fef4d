"""Notices that files have changed."""

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from sidecall_server.core.ports import Clock, Timer

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


class FileWatch:
    """Looks at files from time to time.

    Looking finds every change, on every file system and through symbolic links whose
    target is replaced, as for the files of a mounted ConfigMap. A change counts when two
    looks in a row find the same; a file that cannot be read at the moment has not changed.
    """

    def __init__(self, clock: Clock, interval_s: float, changed: Callable[[], None]) -> None:
        """Takes the seconds between two looks, 0 for none, and whom to tell of a change."""
        self._clock = clock
        self._interval_ns = round(interval_s * 1e9)
        self._changed = changed
        self._known: dict[Path, Identity | None] = {}
        self._seen: dict[Path, Identity | None] = {}
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begins to look."""
        if self._interval_ns:
            when_ns = self._clock.now_ns() + self._interval_ns
            self._timer = self._clock.call_at(when_ns, self._look)

    def stop(self) -> None:
        """Looks no more. Idempotent."""
        self._interval_ns = 0
        if self._timer is not None:
            self._timer.cancel()

    def watch(self, paths: Iterable[Path]) -> None:
        """Replaces the files that are looked at; new ones count from what they are now."""
        old = self._known
        self._known = {path: old[path] if path in old else identify(path) for path in paths}

    def accept(self) -> None:
        """Takes the files as they are now for unchanged."""
        self._known = {path: identify(path) for path in self._known}

    def _look(self) -> None:
        self.start()
        seen = {path: identify(path) for path in self._known}
        settled = seen == self._seen
        self._seen = seen
        changes = {path: now for path, now in seen.items() if now not in (None, self._known[path])}
        if settled and changes:
            # Told once: what follows from it may take longer than the time to the next look.
            self._known |= changes
            self._changed()
