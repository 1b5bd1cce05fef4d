"""A store against a dictionary, over any order of puts, flushes and restarts."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.record_values import INDEXES, RECORDS, SCOPES, plain

from sidecall_server.core.records import Record, Scope
from sidecall_server.store.database import Database
from sidecall_server.store.keeper import StoreOptions
from sidecall_server.store.sqlite import SqliteStore

RETENTION_S = 100
KEPT_S = 125
"""Uses are noted now and then: scopes are kept longer by that time."""

PUT = st.tuples(st.just("put"), st.integers(0, 2), INDEXES, RECORDS)
LOAD = st.tuples(st.just("load"), st.integers(0, 2))
PASS = st.tuples(st.just("pass"), st.sampled_from([1, 60, KEPT_S, KEPT_S + 1]))
FLUSH, TIDY, REOPEN = (st.tuples(st.just(name)) for name in ("flush", "tidy", "reopen"))
STEPS = st.lists(PUT | PUT | LOAD | FLUSH | PASS | TIDY | REOPEN, max_size=25)


class Model:
    """What the store must know.

    Attributes:
        records: What was put, by scope.
        used_s: When each scope was used.
        now_s: The time.
    """

    def __init__(self) -> None:
        self.records: dict[Scope, dict[int, Record]] = {}
        self.used_s: dict[Scope, int] = {}
        self.now_s = 1_000

    def expire(self) -> None:
        for scope in list(self.records):
            if self.used_s[scope] < self.now_s - KEPT_S:
                del self.records[scope]

    def use(self, scope: Scope) -> None:
        self.used_s[scope] = self.now_s


async def follow(
    folder: Path, scopes: Sequence[Scope], steps: Sequence[tuple[object, ...]]
) -> None:
    model = Model()
    options = StoreOptions(folder / "records.db", RETENTION_S)

    async def opened() -> SqliteStore:
        return await SqliteStore.open(options, lambda: model.now_s * 10**9, 1e6)

    store = await opened()
    try:
        for step in steps:
            match step:
                case ("put", int(number), int(index), Record() as record):
                    # Who puts has loaded: what expired is not taken for more of the same.
                    await store.load(scopes[number])
                    store.put(scopes[number], index, record)
                    model.records.setdefault(scopes[number], {})[index] = record
                    model.use(scopes[number])
                case ("load", int(number)):
                    found = await store.load(scopes[number])
                    expected = model.records.get(scopes[number], {})
                    assert _plain(found) == _plain(expected)
                    model.use(scopes[number])
                case ("pass", int(seconds)):
                    # A record counts as used when it is committed.
                    assert await store.flush()
                    model.now_s += seconds
                    model.expire()
                case ("flush",):
                    assert await store.flush()
                case ("tidy",):
                    await store._use(partial(Database.tidy, now_ms=model.now_s * 1000))
                case _:
                    await store.close()
                    store = await opened()
        await store.close()
        store = await opened()
        for scope in scopes:
            assert _plain(await store.load(scope)) == _plain(model.records.get(scope, {}))
    finally:
        await store.close()


def _plain(records: object) -> dict[int, object]:
    assert isinstance(records, dict)
    return {index: plain(record) for index, record in records.items()}


@settings(max_examples=60)
@given(st.lists(SCOPES, min_size=3, max_size=3, unique=True), STEPS)
def test_a_store_knows_what_was_put(scopes: list[Scope], steps: list[tuple[object, ...]]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="sidecall-"))
    try:
        asyncio.run(follow(folder, scopes, steps))
    finally:
        shutil.rmtree(folder)
