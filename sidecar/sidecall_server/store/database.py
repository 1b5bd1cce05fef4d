"""The file of a store: its connection, its tables and what is done with them.

Synchronous, for one thread. Everything raises `sqlite3.Error` where SQLite fails.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sidecall_server.core.records import BATCH, Record, Scope
from sidecall_server.store.codec import Columns, decode_record, encode_record, encode_scope
from sidecall_server.store.opening import open_connection

_log = logging.getLogger("sidecall.store")

Group = Mapping[Scope, Mapping[int, Record]]
"""Records that are committed together; a scope without any is only used."""

_ROWS_AT_A_TIME = 64
_BREATH_S = 0.000_01
_TIDY_SCOPES = 64
_TIDY_ROWS = 256

_BULK_BYTES = 1024
"""Bytes of an approval above which it is dropped with the outcomes."""

_LOST = json.dumps(["lost"])
"""Key of the scope that says, as long as it lasts, that others were lost. It has no records."""

_BEGINNING = (-(2**63), 0)

_FORGET = "UPDATE scopes SET key = NULL WHERE id = ?"
_TOUCH = "UPDATE scopes SET used_ms = ? WHERE key = ?"
_USE = """
INSERT INTO scopes (key, used_ms) VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET used_ms = excluded.used_ms RETURNING id
"""
_PUT = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_FIND = "SELECT id, used_ms FROM scopes WHERE key = ?"
_LOAD = """
SELECT call_index, digest, started, attempts, outcome, approval FROM records WHERE scope_id = ?
"""
_EXPIRE = """
UPDATE scopes SET key = NULL WHERE id IN
(SELECT id FROM scopes WHERE key IS NOT NULL AND used_ms < ? ORDER BY used_ms LIMIT ?)
"""
_HAS_BULK = f"(outcome IS NOT NULL OR length(approval) > {_BULK_BYTES})"
_STARTED = f"""
EXISTS (SELECT 1 FROM records WHERE scope_id = scopes.id AND started AND call_index <> {BATCH})
"""  # noqa: S608  a number of our own
_DISPENSABLE = f"""
SELECT id, used_ms, key, {_STARTED} FROM scopes
WHERE key IS NOT NULL AND key <> '{_LOST}' AND (used_ms, id) >= (?, ?) AND (
  NOT {_STARTED} OR EXISTS (SELECT 1 FROM records WHERE scope_id = scopes.id AND {_HAS_BULK})
) ORDER BY used_ms, id LIMIT 1
"""  # noqa: S608  of our own
_WITHOUT_BULK = f"""
SELECT scope_id, call_index, digest, started, attempts, NULL,
iif(length(approval) > {_BULK_BYTES}, NULL, approval)
FROM records WHERE scope_id = ? AND {_HAS_BULK} LIMIT ?
"""  # noqa: S608  of our own
_DELETE = "DELETE FROM records WHERE scope_id = ? AND call_index = ?"
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
        max_bytes: Size above which outcomes are dropped, those used least recently first.
        lost_ms: When records were lost that were here; None where none were. Until they
            would have expired nobody can say that a scope was never used.

    Raises:
        StoreError: It cannot be opened.
    """

    def __init__(
        self, path: Path, retention_s: float, max_bytes: int, lost_ms: int | None = None
    ) -> None:
        self._retention_ms = round(retention_s * 1000)
        self._max_bytes = max_bytes
        self._connection = open_connection(path)
        self._page_bytes = self._number("PRAGMA page_size")
        self._kept_until = _BEGINNING  # use and id of the scope at which to go on to make room
        if lost_ms is not None:
            self._connection.execute(_USE, (_LOST, lost_ms)).fetchall()

    def load(self, scope: Scope, now_ms: int) -> dict[int, Record] | None:
        """The records of a scope by index; it is used now.

        None where there are none and it may have been lost.
        """
        execute = self._connection.execute
        oldest_ms = self._oldest_ms(now_ms)
        scope_id, used_ms = execute(_FIND, (encode_scope(scope),)).fetchone() or (None, 0)
        if scope_id is None or used_ms < oldest_ms:
            if scope_id is not None:
                # What is put under it from now on must not be taken for more of the same.
                self._try(_FORGET, (scope_id,))
            _, lost_ms = execute(_FIND, (_LOST,)).fetchone() or (0, oldest_ms - 1)
            return {} if lost_ms < oldest_ms else None
        records: dict[int, Record] = {}
        cursor = execute(_LOAD, (scope_id,))
        while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
            records.update((index, decode_record(Columns(*row))) for index, *row in rows)
            if len(rows) == _ROWS_AT_A_TIME:
                # Decoding keeps the interpreter from the event loop, for 5 ms at a time.
                time.sleep(_BREATH_S)
        self._try("UPDATE scopes SET used_ms = ? WHERE id = ?", (now_ms, scope_id))
        return records

    def write(self, group: Group, now_ms: int) -> None:
        """Commits records; their scopes are used now.

        A scope that may have expired must have been loaded before.
        """
        with self._transaction() as connection:
            for scope, records in group.items():
                key = encode_scope(scope)
                if not records:
                    connection.execute(_TOUCH, (now_ms, key))
                    continue
                ((scope_id,),) = connection.execute(_USE, (key, now_ms)).fetchall()
                # One by one: SQLite leaves the interpreter to others between the rows.
                connection.executemany(
                    _PUT,
                    ((scope_id, index, *self._columns(r)) for index, r in records.items()),
                )

    def tidy(self, now_ms: int, in_use: Collection[Scope] = ()) -> bool:
        """Forgets and deletes a little of what is too old or too much.

        Args:
            now_ms: The time.
            in_use: Scopes that are used now.

        Returns:
            Whether there is more to do.
        """
        keys = {encode_scope(scope) for scope in in_use}
        with self._transaction() as connection:
            execute = connection.execute
            connection.executemany(_TOUCH, ((now_ms, key) for key in keys))
            expired = execute(_EXPIRE, (self._oldest_ms(now_ms), _TIDY_SCOPES)).rowcount
            evicted = self.is_full() and not self._dying() and self._make_room(keys)
            deleted = execute(_DELETE_RECORDS, (_TIDY_ROWS,)).rowcount
            execute(_DELETE_SCOPES, (_TIDY_SCOPES,))
        return bool(expired or evicted or deleted == _TIDY_ROWS or self._dying())

    def _make_room(self, in_use: Collection[str]) -> bool:
        """Drops what no call runs twice without: of the scope used least recently, a little.

        Outcomes go and marks of starts stay; a scope in which nothing started goes as a whole.
        """
        execute = self._connection.execute
        while found := execute(_DISPENSABLE, self._kept_until).fetchone():
            scope_id, used_ms, key, started = found
            if key in in_use:
                self._kept_until = used_ms, scope_id + 1
                continue
            self._kept_until = used_ms, scope_id
            if started:
                rows = execute(_WITHOUT_BULK, (scope_id, _TIDY_ROWS)).fetchall()
                # Rows that only become shorter would leave their pages as empty as they are.
                self._connection.executemany(_DELETE, (row[:2] for row in rows))
                self._connection.executemany(_PUT, rows)
            else:
                execute(_FORGET, (scope_id,))
            return True
        self._kept_until = _BEGINNING
        return False

    def is_full(self) -> bool:
        """Whether it is larger than it should be."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._page_bytes > self._max_bytes

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()

    def _try(self, statement: str, values: tuple[int, ...]) -> None:
        """Takes a note that what was read is worth more than: the disk may be full."""
        try:
            self._connection.execute(statement, values)
        except sqlite3.OperationalError:
            _log.debug("the use of a scope was not noted", exc_info=True)

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
