from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecall_server.core.outcome import Success
from sidecall_server.core.records import BATCH, Record, Scope, ScopeKind
from sidecall_server.store.database import Database

RETENTION_S = 10
STARTED = Record(b"d", started=True)
MAX_BYTES = 256 * 1024


def scope(number: int) -> Scope:
    return Scope(ScopeKind.REQUEST, "someone", "", f"r{number}")


def done(size: int = 10) -> Record:
    return Record(b"d", started=True, outcome=Success("x" * size), attempts=1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "records.db", RETENTION_S, MAX_BYTES)
    yield opened
    opened.close()


def count(database: Database, table: str) -> int:
    return database._number(f"SELECT count(*) FROM {table}")  # noqa: S608


def tidy_all(database: Database, now_ms: int) -> int:
    steps = 1
    while database.tidy(now_ms):
        steps += 1
    return steps


def test_scopes_expire_after_their_last_use(database: Database) -> None:
    for number in range(3):
        database.write({scope(number): {0: STARTED}}, 0)
    assert database.load(scope(1), 6_000)
    database.write({scope(2): {1: STARTED}}, 6_000)
    assert not database.load(scope(0), 10_001)
    tidy_all(database, 10_001)
    assert count(database, "records") == 3
    assert len(database.load(scope(1), 16_000)) == 1
    assert len(database.load(scope(2), 16_000)) == 2
    tidy_all(database, 26_001)
    assert (count(database, "scopes"), count(database, "records")) == (0, 0)


def test_what_expired_does_not_come_back(database: Database) -> None:
    database.write({scope(0): {0: done(), 1: done()}}, 0)
    database.write({scope(0): {1: STARTED}}, 10_001)
    assert database.load(scope(0), 10_001) == {1: STARTED}
    tidy_all(database, 10_001)
    assert database.load(scope(0), 10_001) == {1: STARTED}
    assert count(database, "records") == 1


def test_tidying_takes_small_steps(database: Database) -> None:
    database.write({scope(0): {index: done() for index in range(1000)}}, 0)
    assert database.tidy(20_000)
    assert count(database, "records") == 744
    assert not database.load(scope(0), 20_000)
    assert tidy_all(database, 20_000) > 2
    assert count(database, "scopes") == 0
    assert not database.tidy(20_000)


def test_finished_scopes_make_room_the_oldest_first(database: Database) -> None:
    database.write({scope(0): {BATCH: Record(b"b"), 0: STARTED, 1: done()}}, 0)
    for number in range(1, 10):
        database.write({scope(number): {BATCH: Record(b"b"), 0: done(50_000)}}, number)
    database.load(scope(1), 20)
    assert database.is_full()
    tidy_all(database, 20)
    assert not database.is_full()
    left = [number for number in range(10) if database.load(scope(number), 20)]
    assert left[:2] == [0, 1], "unfinished, and used last"
    assert left[2:] == list(range(10 - len(left[2:]), 10))
    assert len(left) >= 4


def test_what_has_no_known_end_stays_even_in_a_full_file(database: Database) -> None:
    calls = {index: Record(bytes(1000), started=True) for index in range(400)}
    database.write({scope(0): calls}, 0)
    assert database.is_full()
    tidy_all(database, 0)
    assert database.load(scope(0), 0) == calls


def test_an_outcome_that_cannot_be_kept_is_unknown(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    odd = Record(b"o", started=True, outcome=Success(None))  # type: ignore[arg-type]
    database.write({scope(0): {0: done(MAX_BYTES), 1: done(), 2: odd}}, 0)
    loaded = database.load(scope(0), 0)
    assert loaded[0] == Record(b"d", started=True, outcome=None, attempts=1)
    assert isinstance(loaded[1].outcome, Success)
    assert loaded[2] == Record(b"o", started=True)
    assert ["too large" in r.message for r in caplog.records] == [True, False]
