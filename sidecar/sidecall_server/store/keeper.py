"""Keeps the file of a store open, whatever becomes of it. For one thread."""

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sidecall_server.store.database import Database
from sidecall_server.store.errors import StoreError
from sidecall_server.store.opening import aside_of, primary_code, set_aside

T = TypeVar("T")

_log = logging.getLogger("sidecall.store")

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PASSING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""After these the connection is as good as before."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store behaves.

    Attributes:
        path: Its file.
        retention_s: Seconds after its last use at which a scope is forgotten.
        max_bytes: Size of the file above which outcomes are dropped, those used least
            recently first. That a call was started stays.
    """

    path: Path
    retention_s: float
    max_bytes: int = 256 * 1024 * 1024


class Keeper:
    """A database that is opened again after it has failed.

    Attributes:
        options: How it behaves.

    Raises:
        StoreError: It cannot be opened at first.
    """

    def __init__(self, options: StoreOptions, unix_ns: Callable[[], int] = time.time_ns) -> None:
        """Opens the file; `unix_ns` tells the time since the Unix epoch."""
        self.options = options
        self._unix_ns = unix_ns
        self._database: Database | None = self._open()

    def use(self, work: Callable[[Database], T]) -> T:
        """Works with the database. A damaged one is set aside, and an empty one used.

        That one knows that others were lost, until those would have expired.

        Raises:
            sqlite3.Error: It failed.
            StoreError: It failed before and cannot be opened.
            OSError: It is damaged and cannot be set aside.
        """
        try:
            return self._attempt(work)
        except (sqlite3.Error, StoreError) as error:
            if not _is_damage(error):
                raise
            aside = set_aside(self.options.path, self._unix_ns())
            _log.error(
                "%s is damaged (%s) and was moved to %s: what was remembered is lost. For %g s "
                "requests with an id that is not in memory are refused, since they may have run",
                self.options.path,
                error,
                aside,
                self.options.retention_s,
            )
        return self._attempt(work)

    def close(self) -> None:
        """Lets go of the file."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _attempt(self, work: Callable[[Database], T]) -> T:
        if self._database is None:
            self._database = self._open()
        try:
            return work(self._database)
        except sqlite3.Error as error:
            if primary_code(error) not in _PASSING:
                self.close()
            raise

    def _open(self) -> Database:
        options = self.options
        try:
            lost_ms = aside_of(options.path).stat().st_mtime_ns // 1_000_000
        except OSError:
            lost_ms = None
        return Database(options.path, options.retention_s, options.max_bytes, lost_ms)


def _is_damage(error: Exception) -> bool:
    why = error.__cause__ if isinstance(error, StoreError) else error
    return isinstance(why, sqlite3.Error) and primary_code(why) in _DAMAGED
