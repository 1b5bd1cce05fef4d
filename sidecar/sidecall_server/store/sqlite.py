"""Records in a file of SQLite, written by one thread in groups."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from sidecall_server.core.records import Record, Scope
from sidecall_server.store.database import Database, Group
from sidecall_server.store.errors import StoreError
from sidecall_server.store.keeper import Keeper, StoreOptions

T = TypeVar("T")

_log = logging.getLogger("sidecall.store")

_LINGER_S = 0.005
"""Seconds that records wait for others to share a commit, where no flush waits for them."""

_RETRY_S = 1.0
"""Seconds after which a failed commit is tried again, where no flush asks for it sooner."""

_NOTES = 4
"""How often, at least, it is noted within the retention that a scope is in use."""

_MAX_KEPT = 50_000
"""Records that are kept in memory while the file cannot be written."""


class SqliteStore:
    """Implements core.records.RecordStore. Made by `open`; used from one event loop.

    What is put while a commit runs goes into the next one. Records whose commit failed stay
    in memory, are found there, and are committed with the next ones. That scopes are in use
    is noted now and then; the file keeps all of them longer by the time between two notes.
    """

    def __init__(
        self,
        executor: ThreadPoolExecutor,
        keeper: Keeper,
        unix_ns: Callable[[], int],
        tidy_every_s: float,
    ) -> None:
        """Takes an open file; all work with it happens in the executor's one thread."""
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._keeper = keeper
        self._path = keeper.options.path
        self._unix_ns = unix_ns
        self._tidy_every_s = tidy_every_s
        self._in_use: Callable[[], Iterable[Scope]] = tuple
        self._pending: dict[Scope, dict[int, Record]] = {}
        self._next: asyncio.Future[bool] | None = None  # of the commit that takes what is pending
        self._taken: dict[Scope, dict[int, Record]] = {}
        self._running: asyncio.Future[bool] | None = None  # of the commit that runs
        self._commit_timer: asyncio.Handle | None = None
        self._commit_is_soon = False
        self._tidying: asyncio.Future[tuple[bool, bool]] | None = None
        self._tidy_timer = self._loop.call_later(tidy_every_s, self._tidy)
        self._closing: asyncio.Task[None] | None = None
        self._failing: set[str] = set()
        self._commits = self._records = self._failures = self._dropped = 0

    @classmethod
    async def open(
        cls,
        options: StoreOptions,
        unix_ns: Callable[[], int] = time.time_ns,
        tidy_every_s: float = 10.0,
    ) -> "SqliteStore":
        """Opens a store's file, or makes it.

        Args:
            options: Its file and bounds.
            unix_ns: Tells the time, in nanoseconds since the Unix epoch.
            tidy_every_s: Seconds at most between two looks for what is in use and what can
                be forgotten.

        Raises:
            StoreError: It cannot be opened.
        """
        executor = ThreadPoolExecutor(1, "sidecall-store")
        tidy_every_s = min(tidy_every_s, options.retention_s / _NOTES)
        kept = replace(options, retention_s=options.retention_s + tidy_every_s)
        try:
            make = partial(Keeper, kept, unix_ns)
            opening = asyncio.get_running_loop().run_in_executor(executor, make)
            return cls(executor, await opening, unix_ns, tidy_every_s)
        except BaseException:
            executor.shutdown(wait=False)
            raise

    async def load(self, scope: Scope) -> Mapping[int, Record] | None:
        """See RecordStore."""
        now_ms = self._now_ms()
        try:
            found = await self._use(lambda database: database.load(scope, now_ms))
            self._works("read")
        except Exception as error:
            self._fails("read", error)
            return None
        if found is not None:
            for later in (self._taken, self._pending):
                found.update(later.get(scope, {}))
        return found

    def touch(self, scope: Scope) -> None:
        """See RecordStore."""
        if self._closing is None:
            self._pending.setdefault(scope, {})

    def keep_in_use(self, in_use: Callable[[], Iterable[Scope]]) -> None:
        """See RecordStore."""
        self._in_use = in_use

    def put(self, scope: Scope, index: int, record: Record) -> None:
        """See RecordStore."""
        if self._closing is not None:
            self._dropped += 1
            return
        self._pending.setdefault(scope, {})[index] = record
        if self._commit_timer is None and self._running is None:
            self._commit_timer = self._loop.call_later(_LINGER_S, self._commit)

    async def flush(self) -> bool:
        """See RecordStore."""
        if self._closing is not None:
            await asyncio.shield(self._closing)
            return not self._pending and not self._dropped
        if self._pending:
            if self._next is None:
                self._next = self._loop.create_future()
            commit = self._next
            if self._running is None and not self._commit_is_soon:
                # Those who put or flush in this iteration of the loop share the commit.
                self._commit_is_soon = True
                self._cancel_commit_timer()
                self._commit_timer = self._loop.call_soon(self._commit)
        elif self._running is not None:
            commit = self._running
        else:
            return True
        return await asyncio.shield(commit)

    async def close(self) -> None:
        """See RecordStore. Idempotent; nothing can be put afterwards."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    def statistics(self) -> Mapping[str, int]:
        """Counts for people."""
        return {
            "commits": self._commits,
            "records_committed": self._records,
            "records_pending": _size(self._pending) + _size(self._taken),
            "records_dropped": self._dropped,
            "failures": self._failures,
        }

    async def _close(self) -> None:
        self._tidy_timer.cancel()
        try:
            while self._running is not None or self._pending:
                if self._running is None:
                    self._commit()
                if self._running is not None and not await asyncio.shield(self._running):
                    break
        finally:
            self._cancel_commit_timer()
            closed = self._executor.submit(self._keeper.close)
            self._executor.shutdown(wait=False)
        try:
            await asyncio.wrap_future(closed)
        except sqlite3.Error as error:
            self._fails("closed", error)
        if self._pending:
            _log.error("%d records were not committed and are lost", _size(self._pending))

    def _commit(self) -> None:
        """Commits what is pending, unless a commit runs: the next one begins at its end."""
        self._cancel_commit_timer()
        self._commit_is_soon = False
        if self._running is not None or not self._pending:
            return
        taken, self._pending, self._taken = self._pending, {}, self._pending
        self._running, self._next = self._next or self._loop.create_future(), None
        now_ms = self._now_ms()

        def write(database: Database) -> bool:
            database.write(taken, now_ms)
            return database.is_full()

        self._use(write).add_done_callback(self._end_commit)

    def _end_commit(self, job: asyncio.Future[bool]) -> None:
        taken, self._taken = self._taken, {}
        running, self._running = self._running, None
        error = job.exception()
        if error is None:
            self._commits += 1
            self._records += _size(taken)
            self._works("written")
            if job.result() and "full" not in self._failing:
                self._tidy()
        else:
            self._fails("written", error)
            self._put_back(taken)
        if running is not None:
            running.set_result(error is None)
        if self._closing is not None and error is not None:
            self._give_up()
        elif self._next is not None:
            self._commit()
        elif self._pending:
            delay_s = _LINGER_S if error is None else _RETRY_S
            self._commit_timer = self._loop.call_later(delay_s, self._commit)

    def _give_up(self) -> None:
        """Answers those who wait for a commit that will not be tried any more."""
        if self._next is not None:
            self._next.set_result(False)
            self._next = None

    def _put_back(self, taken: dict[Scope, dict[int, Record]]) -> None:
        """Keeps records whose commit failed, the newest where they are too many."""
        taken = {scope: records for scope, records in taken.items() if records}
        for scope, records in self._pending.items():
            taken.setdefault(scope, {}).update(records)
        self._pending = taken
        size = _size(taken)
        while size > _MAX_KEPT:
            oldest = len(taken.pop(next(iter(taken))))
            size -= oldest
            self._dropped += oldest

    def _tidy(self) -> None:
        """Forgets a little of what is too old or too much, then again while there is more."""
        if self._tidying is not None or self._closing is not None:
            return
        self._tidy_timer.cancel()
        # Uses that no commit has noted yet come before what expires.
        self._commit()
        now_ms, in_use = self._now_ms(), list(self._in_use())
        self._tidying = self._use(
            lambda database: (database.tidy(now_ms, in_use), database.is_full())
        )
        self._tidying.add_done_callback(self._end_tidy)

    def _end_tidy(self, job: asyncio.Future[tuple[bool, bool]]) -> None:
        self._tidying = None
        delay_s = self._tidy_every_s
        if error := job.exception():
            self._fails("tidied", error)
        else:
            self._works("tidied")
            has_more, is_full = job.result()
            if has_more:
                # Commits that wait for the thread come first.
                delay_s = 0
            elif is_full:
                self._fails("full", None)
            else:
                self._works("full")
        if self._closing is None:
            self._tidy_timer = self._loop.call_later(delay_s, self._tidy)

    def _fails(self, what: str, error: BaseException | None) -> None:
        """Takes note of a failure, and says so when it is the first one."""
        self._failures += error is not None
        if what in self._failing:
            return
        self._failing.add(what)
        if error is None:
            _log.warning("%s: marks of calls that ran fill it beyond its bound", self._path)
        elif isinstance(error, sqlite3.Error | StoreError | OSError):
            _log.error("%s cannot be %s: %s", self._path, what, error)
        else:
            _log.error("%s cannot be %s", self._path, what, exc_info=error)

    def _works(self, what: str) -> None:
        if what in self._failing:
            self._failing.discard(what)
            if what != "full":
                _log.warning("%s can be %s again", self._path, what)

    def _use(self, work: Callable[[Database], T]) -> asyncio.Future[T]:
        return self._loop.run_in_executor(self._executor, self._keeper.use, work)

    def _cancel_commit_timer(self) -> None:
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None

    def _now_ms(self) -> int:
        return self._unix_ns() // 1_000_000


def _size(group: Group) -> int:
    return sum(map(len, group.values()))
