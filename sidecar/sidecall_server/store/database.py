"""The file of a store: its connection, its tables and what is done with them.

Synchronous, for one thread. Everything raises `sqlite3.Error` where SQLite fails.
"""

import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sidecall_server.core.records import BATCH, Record, Scope
from sidecall_server.store.codec import Columns, decode_record, encode_record, encode_scope
from sidecall_server.store.opening import open_connection

_log = logging.getLogger("sidecall.store")

Group = Mapping[Scope, Mapping[int, Record]]
"""Records that are committed together."""

_ROWS_AT_A_TIME = 64
_BREATH_S = 0.000_01
_TIDY_SCOPES = 64
_TIDY_ROWS = 256

_FORGET = "UPDATE scopes SET key = NULL WHERE key = ? AND used_ms < ?"
_USE = """
INSERT INTO scopes (key, used_ms) VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET used_ms = excluded.used_ms RETURNING id
"""
_PUT = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_FIND = "SELECT id FROM scopes WHERE key = ? AND used_ms >= ?"
_LOAD = """
SELECT call_index, digest, started, attempts, outcome, approval FROM records WHERE scope_id = ?
"""
_EXPIRE = """
UPDATE scopes SET key = NULL WHERE id IN
(SELECT id FROM scopes WHERE key IS NOT NULL AND used_ms < ? ORDER BY used_ms LIMIT ?)
"""
_EVICT = f"""
UPDATE scopes SET key = NULL WHERE id IN (
  SELECT id FROM scopes WHERE key IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM records WHERE scope_id = scopes.id
    AND started AND outcome IS NULL AND call_index <> {BATCH}
  ) ORDER BY used_ms, id LIMIT 1
)
"""  # noqa: S608  a number of our own
_DELETE_RECORDS = """
DELETE FROM records WHERE rowid IN (
  SELECT records.rowid FROM scopes JOIN records ON scope_id = id WHERE key IS NULL LIMIT ?
)
"""
_DELETE_SCOPES = """
DELETE FROM scopes WHERE id IN (
  SELECT id FROM scopes WHERE key IS NULL
  AND NOT EXISTS (SELECT 1 FROM records WHERE scope_id = scopes.id) LIMIT ?
)
"""


class Database:
    """An open file.

    Args:
        path: The file; its folder must exist.
        retention_s: Seconds after its last use at which a scope is forgotten.
        max_bytes: Size above which the scopes used least recently are forgotten.

    Raises:
        StoreError: It cannot be opened.
    """

    def __init__(self, path: Path, retention_s: float, max_bytes: int) -> None:
        self._retention_ms = round(retention_s * 1000)
        self._max_bytes = max_bytes
        self._connection = open_connection(path)
        self._page_bytes = self._number("PRAGMA page_size")

    def load(self, scope: Scope, now_ms: int) -> dict[int, Record]:
        """The records of a scope by index; it is used now."""
        execute = self._connection.execute
        found = execute(_FIND, (encode_scope(scope), self._oldest_ms(now_ms))).fetchone()
        if found is None:
            return {}
        records: dict[int, Record] = {}
        cursor = execute(_LOAD, found)
        while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
            records.update((index, decode_record(Columns(*row))) for index, *row in rows)
            if len(rows) == _ROWS_AT_A_TIME:
                # Decoding keeps the interpreter from the event loop, for 5 ms at a time.
                time.sleep(_BREATH_S)
        try:
            execute("UPDATE scopes SET used_ms = ? WHERE id = ?", (now_ms, *found))
        except sqlite3.OperationalError:
            # The disk may be full. What was read is worth more than its new date.
            _log.debug("the use of a scope was not noted", exc_info=True)
        return records

    def write(self, group: Group, now_ms: int) -> None:
        """Commits records; their scopes are used now."""
        with self._transaction() as connection:
            for scope, records in group.items():
                key = encode_scope(scope)
                connection.execute(_FORGET, (key, self._oldest_ms(now_ms)))
                ((scope_id,),) = connection.execute(_USE, (key, now_ms)).fetchall()
                # One by one: SQLite leaves the interpreter to others between the rows.
                connection.executemany(
                    _PUT,
                    ((scope_id, index, *self._columns(r)) for index, r in records.items()),
                )

    def tidy(self, now_ms: int) -> bool:
        """Forgets and deletes a little of what is too old or too much.

        Returns:
            Whether there is more to do.
        """
        with self._transaction() as connection:
            execute = connection.execute
            expired = execute(_EXPIRE, (self._oldest_ms(now_ms), _TIDY_SCOPES)).rowcount
            evicted = execute(_EVICT).rowcount if self.is_full() and not self._dying() else 0
            deleted = execute(_DELETE_RECORDS, (_TIDY_ROWS,)).rowcount
            execute(_DELETE_SCOPES, (_TIDY_SCOPES,))
        return bool(expired or evicted or deleted == _TIDY_ROWS or self._dying())

    def is_full(self) -> bool:
        """Whether it is larger than it should be."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._page_bytes > self._max_bytes

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()

    def _dying(self) -> bool:
        return bool(self._number("SELECT EXISTS (SELECT 1 FROM scopes WHERE key IS NULL)"))

    def _columns(self, record: Record) -> Columns:
        """A record as columns; one whose outcome cannot be kept counts as unknown."""
        try:
            columns = encode_record(record)
            size = len(columns.outcome or b"")
            if size <= self._max_bytes // 4:
                return columns
            _log.warning("an outcome of %d bytes is too large to be remembered", size)
        except Exception:
            _log.exception("an outcome cannot be remembered")
        return encode_record(replace(record, outcome=None))

    def _oldest_ms(self, now_ms: int) -> int:
        return now_ms - self._retention_ms

    def _number(self, question: str) -> int:
        ((number,),) = self._connection.execute(question).fetchall()
        return int(number)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # After some errors SQLite has rolled back itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
