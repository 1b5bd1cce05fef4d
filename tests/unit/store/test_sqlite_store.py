import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.support.gate import WAIT_S

from sidecall_server.core.outcome import Success
from sidecall_server.core.records import Record, RecordStore, Scope, ScopeKind
from sidecall_server.store.database import Database
from sidecall_server.store.errors import StoreError
from sidecall_server.store.keeper import StoreOptions
from sidecall_server.store.sqlite import SqliteStore

STARTED = Record(b"d", started=True)
DONE = replace(STARTED, outcome=Success("x" * 2_000), attempts=1)
SCOPE = Scope(ScopeKind.REQUEST, "someone", "", "r")


def scope(number: int) -> Scope:
    return SCOPE._replace(id=f"r{number}")


@pytest.fixture
def options(tmp_path: Path) -> StoreOptions:
    return StoreOptions(tmp_path / "records.db", retention_s=60)


@pytest.fixture
async def store(options: StoreOptions) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(options)
    yield opened
    await opened.close()


@contextlib.asynccontextmanager
async def held(store: SqliteStore) -> AsyncIterator[None]:
    """Keeps the store's thread busy."""
    go = threading.Event()
    busy = store._use(lambda _: go.wait(WAIT_S))
    try:
        yield
    finally:
        go.set()
        assert await busy


async def settle() -> None:
    """Lets everything happen that does not need the store's thread."""
    for _ in range(10):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await condition():  # noqa: ASYNC110  the store has no such event
            await asyncio.sleep(0.001)


async def has_no_thread() -> bool:
    return not any(thread.name.startswith("sidecall-store") for thread in threading.enumerate())


async def has_committed(store: SqliteStore, records: int) -> bool:
    return store.statistics()["records_committed"] >= records


async def holds(store: SqliteStore, condition: Callable[[Database], bool]) -> bool:
    return await store._use(condition)


def is_empty(database: Database) -> bool:
    return not database._number("SELECT count(*) FROM scopes")


async def page_bound(store: SqliteStore, pages: int | None) -> None:
    """Makes the disk as full as it is now, with room for some pages; None: empty again."""

    def bound(database: Database) -> None:
        used = database._number("PRAGMA page_count")
        limit = 2**30 if pages is None else used + pages
        database._number(f"PRAGMA max_page_count = {limit}")

    await store._use(bound)


async def test_it_is_a_record_store(store: SqliteStore) -> None:
    used: RecordStore = store
    assert await used.load(SCOPE) == {}
    assert await used.flush()


async def test_what_was_put_is_found_before_and_after_its_commit(
    store: SqliteStore, options: StoreOptions
) -> None:
    store.put(SCOPE, 0, STARTED)
    assert await store.load(SCOPE) == {0: STARTED}
    assert await store.flush()
    store.put(SCOPE, 1, STARTED)
    assert await store.load(SCOPE) == {0: STARTED, 1: STARTED}
    await store.close()
    again = await SqliteStore.open(options)
    assert await again.load(SCOPE) == {0: STARTED, 1: STARTED}
    await again.close()


async def test_what_is_put_is_committed_without_a_flush(store: SqliteStore) -> None:
    store.put(SCOPE, 0, STARTED)
    await eventually(lambda: has_committed(store, 1))


async def test_flushes_share_commits(store: SqliteStore) -> None:
    async def put_and_flush(number: int) -> bool:
        store.put(scope(number), 0, STARTED)
        return await store.flush()

    async with held(store):
        first = [asyncio.create_task(put_and_flush(number)) for number in range(10)]
        await settle()
        second = [asyncio.create_task(put_and_flush(number)) for number in range(10, 20)]
        await settle()
        assert store.statistics()["records_pending"] == 20
    assert all(await asyncio.gather(*first, *second))
    assert store.statistics()["commits"] == 2


async def test_a_flush_waits_for_what_was_put_before_it_and_no_more(store: SqliteStore) -> None:
    async with held(store):
        store.put(SCOPE, 0, STARTED)
        early = asyncio.create_task(store.flush())
        await settle()
        nothing_new = asyncio.create_task(store.flush())
        await settle()
        store.put(SCOPE, 1, STARTED)
        assert not early.done()
    assert await early
    assert await nothing_new
    assert store.statistics()["records_pending"] == 1


async def test_a_flush_that_is_cancelled_takes_nothing_from_the_others(store: SqliteStore) -> None:
    async with held(store):
        store.put(SCOPE, 0, STARTED)
        flushes = [asyncio.create_task(store.flush()) for _ in range(2)]
        await settle()
        flushes[0].cancel()
    assert await flushes[1]
    with pytest.raises(asyncio.CancelledError):
        await flushes[0]


async def test_the_loop_goes_on_while_the_thread_is_busy(store: SqliteStore) -> None:
    async with held(store):
        for number in range(1000):
            store.put(scope(number), 0, STARTED)
        loading = asyncio.create_task(store.load(scope(5)))
        await settle()
        assert not loading.done()
    assert await loading == {0: STARTED}


async def test_a_full_disk(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    store.put(SCOPE, 0, STARTED)
    assert await store.flush()
    await page_bound(store, 0)
    for number in range(3):
        for index in range(20):
            store.put(scope(number), index, DONE)
        assert not await store.flush()
    assert len(await store.load(scope(0)) or ()) == 20, "memory still knows"
    assert await store.load(SCOPE) == {0: STARTED}
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert "cannot be written: database or disk is full" in caplog.text
    await page_bound(store, None)
    assert await store.flush(), "what failed is tried again"
    assert store.statistics()["records_committed"] == 61
    assert "can be written again" in caplog.text
    assert len(caplog.records) == 2


async def test_a_failed_commit_is_tried_again_by_itself(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecall_server.store.sqlite._RETRY_S", 0.01)
    await page_bound(store, 0)
    for index in range(20):
        store.put(SCOPE, index, DONE)
    assert not await store.flush()
    await page_bound(store, None)
    await eventually(lambda: has_committed(store, 20))


async def test_newer_records_win_over_those_that_failed(store: SqliteStore) -> None:
    await page_bound(store, 0)
    async with held(store):
        for index in range(20):
            store.put(SCOPE, index, DONE)
        failing = asyncio.create_task(store.flush())
        await settle()
        store.put(SCOPE, 3, STARTED)
    assert not await failing
    await page_bound(store, None)
    assert await store.flush()
    assert (await store.load(SCOPE) or {})[3] == STARTED


async def test_memory_is_bounded_while_the_disk_is_full(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecall_server.store.sqlite._MAX_KEPT", 50)
    await page_bound(store, 0)
    for number in range(4):
        for index in range(20):
            store.put(scope(number), index, DONE)
    assert not await store.flush()
    assert store.statistics()["records_pending"] == 40
    assert store.statistics()["records_dropped"] == 40
    assert len(await store.load(scope(3)) or ()) == 20
    await page_bound(store, None)


async def test_a_file_that_is_damaged_at_work_is_set_aside(
    store: SqliteStore, options: StoreOptions, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(50):
        store.put(scope(number), 0, DONE)
    assert await store.flush()

    await _spoil(store, options.path)
    store.put(SCOPE, 0, STARTED)
    assert await store.flush()
    assert await store.load(SCOPE) == {0: STARTED}
    assert options.path.with_name("records.db.damaged").exists()
    assert await store.load(scope(1)) is None, "nobody knows what it was"
    assert ["is damaged" in r.message for r in caplog.records] == [True]


async def test_what_a_damaged_file_knew_is_unknown_for_its_time(options: StoreOptions) -> None:
    store = await SqliteStore.open(options, lambda: 0)
    store.put(SCOPE, 0, DONE)
    assert await store.flush()
    await _spoil(store, options.path)
    assert await store.load(SCOPE) is None
    await store.close()
    # As if the process had died before the next file said what was lost.
    options.path.unlink()
    for now_s, expected in ((59, None), (80, {})):
        store = await SqliteStore.open(options, partial(int, now_s * 10**9))
        assert await store.load(SCOPE) == expected
        await store.close()


async def test_scopes_in_use_stay_and_expire_when_they_are_let_go(options: StoreOptions) -> None:
    now_ns, in_use = 0, [SCOPE]
    store = await SqliteStore.open(options, lambda: now_ns, tidy_every_s=0.01)
    store.keep_in_use(lambda: in_use)
    store.put(SCOPE, 0, STARTED)
    store.put(scope(1), 0, DONE)
    assert await store.flush()
    for now_s in (40, 80, 120):
        now_ns = now_s * 10**9
        await eventually(partial(holds, store, partial(_was_used, at_s=now_s)))
    assert await store.load(scope(1)) == {}
    in_use.clear()
    now_ns = 170 * 10**9
    store.touch(SCOPE)
    await eventually(partial(holds, store, partial(_was_used, at_s=170)))
    now_ns = 220 * 10**9
    assert await store.load(SCOPE) == {0: STARTED}
    now_ns = 281 * 10**9
    await eventually(lambda: holds(store, is_empty))
    await store.close()


def _was_used(database: Database, at_s: int) -> bool:
    return database._number("SELECT max(used_ms) FROM scopes") == at_s * 1000


async def _spoil(store: SqliteStore, path: Path) -> None:
    """Overwrites the pages behind the first, and has SQLite read them again."""

    def spoil(database: Database) -> None:
        connection = database._connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA cache_size = 0")
        connection.execute("PRAGMA shrink_memory")
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))

    await store._use(spoil)


async def test_nothing_is_taken_after_the_end(store: SqliteStore) -> None:
    store.put(SCOPE, 0, STARTED)
    await asyncio.gather(store.close(), store.close())
    assert await store.flush()
    store.put(SCOPE, 1, STARTED)
    assert not await store.flush()
    assert store.statistics()["records_committed"] == 1


async def test_the_end_waits_for_the_commit(store: SqliteStore, options: StoreOptions) -> None:
    async with held(store):
        for number in range(3):
            store.put(scope(number), 0, STARTED)
            flushing = asyncio.create_task(store.flush())
            await settle()
        closing = asyncio.create_task(store.close())
        await settle()
    assert await flushing
    await closing
    await eventually(has_no_thread)


async def test_the_end_on_a_full_disk(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    await page_bound(store, 0)
    for index in range(20):
        store.put(SCOPE, index, DONE)
    await store.close()
    assert "20 records were not committed and are lost" in caplog.text
    assert not await store.flush()


async def test_a_store_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        await SqliteStore.open(StoreOptions(tmp_path / "none" / "records.db", 60))
    await eventually(has_no_thread)


async def test_old_and_surplus_scopes_go_by_themselves(options: StoreOptions) -> None:
    now_ns = 0
    small = replace(options, max_bytes=256 * 1024)
    store = await SqliteStore.open(small, lambda: now_ns, tidy_every_s=0.01)
    for number in range(300):
        store.put(scope(number), 0, DONE)
        assert await store.flush()
    await eventually(lambda: holds(store, lambda database: not database.is_full()))
    assert await store.load(scope(299))
    now_ns = 61_000_000_000
    await eventually(lambda: holds(store, is_empty))
    await store.close()


async def test_a_full_file_of_unknown_ends_is_said_once(
    options: StoreOptions, caplog: pytest.LogCaptureFixture
) -> None:
    small = replace(options, max_bytes=64 * 1024)
    store = await SqliteStore.open(small)
    for number in range(4):
        for index in range(1000):
            store.put(scope(number), index, STARTED)
        assert await store.flush()
        await store._use(lambda _: None)
        await settle()
    await store.close()
    assert [r.message for r in caplog.records] == [
        f"{options.path}: marks of calls that ran fill it beyond its bound"
    ]
