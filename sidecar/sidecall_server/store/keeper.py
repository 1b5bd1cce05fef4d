"""Keeps the file of a store open, whatever becomes of it. For one thread."""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sidecall_server.store.database import Database
from sidecall_server.store.errors import StoreError
from sidecall_server.store.opening import primary_code, set_aside

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
        max_bytes: Size of the file above which finished scopes are forgotten, those used
            least recently first. What was started and has no known end stays.
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

    def __init__(self, options: StoreOptions) -> None:
        self.options = options
        self._database: Database | None = self._open()

    def use(self, work: Callable[[Database], T]) -> T:
        """Works with the database. A damaged one is set aside, and an empty one used.

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
            aside = set_aside(self.options.path)
            _log.error(
                "%s is damaged (%s) and was moved to %s: what was remembered is lost",
                self.options.path,
                error,
                aside,
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
        return Database(options.path, options.retention_s, options.max_bytes)


def _is_damage(error: Exception) -> bool:
    why = error.__cause__ if isinstance(error, StoreError) else error
    return isinstance(why, sqlite3.Error) and primary_code(why) in _DAMAGED
