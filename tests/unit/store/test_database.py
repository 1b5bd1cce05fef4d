from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sidecall_server.core.call import Approval
from sidecall_server.core.outcome import Reason, Success, not_started
from sidecall_server.core.records import BATCH, PendingApproval, Record, Scope, ScopeKind
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
    return tidy_all_of(database, now_ms, ())


def tidy_all_of(database: Database, now_ms: int, in_use: Collection[Scope]) -> int:
    steps = 1
    while database.tidy(now_ms, in_use):
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
    assert len(database.load(scope(1), 16_000) or {}) == 1
    assert len(database.load(scope(2), 16_000) or {}) == 2
    tidy_all(database, 26_001)
    assert (count(database, "scopes"), count(database, "records")) == (0, 0)


def test_what_expired_does_not_come_back(database: Database) -> None:
    database.write({scope(0): {0: done(), 1: done()}}, 0)
    assert database.load(scope(0), 10_001) == {}
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


def test_outcomes_make_room_the_oldest_first_and_marks_stay(database: Database) -> None:
    bulky = Record(
        b"d", approval=PendingApproval("a", b"x", Approval(True, arguments="x" * 50_000))
    )
    database.write({scope(0): {BATCH: Record(b"b"), 0: STARTED, 1: done(), 2: bulky}}, 0)
    for number in range(1, 10):
        database.write({scope(number): {BATCH: Record(b"b"), 0: done(50_000)}}, number)
    database.write({scope(10): {BATCH: Record(b"b"), 0: Record(b"d")}}, 1)
    database.load(scope(1), 20)
    assert database.is_full()
    tidy_all(database, 20)
    assert not database.is_full()
    assert database.load(scope(10), 20) == {}, "nothing was started"
    assert database.load(scope(0), 20) == {
        BATCH: Record(b"b"),
        0: STARTED,
        1: replace(done(), outcome=None),
        2: replace(bulky, approval=None),
    }
    loaded = [(database.load(scope(number), 20) or {})[0] for number in range(1, 10)]
    assert all(record.started for record in loaded)
    kept = [number for number, record in enumerate(loaded, 1) if record.outcome is not None]
    assert kept == [1, *range(11 - len(kept), 10)], "the one used last, and the newest"
    assert len(kept) >= 3


def test_a_mark_of_an_older_file_is_no_reason_to_forget_it(database: Database) -> None:
    """It was stored with what an earlier send had come to."""
    stale = replace(STARTED, outcome=not_started(Reason.QUEUE_FULL, "x" * 50_000))
    for number in range(10):
        database.write({scope(number): {BATCH: Record(b"b"), 0: stale}}, 0)
    tidy_all(database, 0)
    assert all((database.load(scope(n), 0) or {})[0].started for n in range(10))
    assert not database.is_full()


def test_scopes_in_use_neither_expire_nor_make_room(database: Database) -> None:
    held = [scope(number) for number in range(6)]
    for one in held:
        database.write({one: {BATCH: Record(b"b"), 0: done(50_000), 1: STARTED}}, 0)
    for now_ms in (5_000, 30_000, 100_000):
        tidy_all_of(database, now_ms, held)
    assert count(database, "records") == 18
    assert all(len(database.load(one, 105_000) or {}) == 3 for one in held)
    assert database.is_full()
    tidy_all(database, 105_000)
    assert not database.is_full()


def test_a_use_without_records_keeps_them(database: Database) -> None:
    database.write({scope(0): {0: STARTED}}, 0)
    database.write({scope(0): {}, scope(1): {}}, 8_000)
    tidy_all(database, 17_000)
    assert database.load(scope(0), 17_000) == {0: STARTED}
    assert count(database, "scopes") == 1


def test_marks_of_calls_that_run_survive_a_clock_that_jumps(database: Database) -> None:
    database.write({scope(0): {0: STARTED}}, 0)
    database.write({scope(0): {1: STARTED}}, 1_000_000)
    assert database.load(scope(0), 1_000_000) == {0: STARTED, 1: STARTED}


def test_what_may_have_been_lost_is_not_said_to_be_new(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    Database(path, RETENTION_S, MAX_BYTES, lost_ms=1_000).close()
    database = Database(path, RETENTION_S, MAX_BYTES)
    database.write({scope(0): {0: STARTED}}, 1_000)
    assert database.load(scope(0), 1_000) == {0: STARTED}
    assert database.load(scope(1), 11_000) is None
    tidy_all(database, 11_000)
    assert database.load(scope(1), 11_000) is None
    assert database.load(scope(1), 11_001) == {}
    tidy_all(database, 30_000)
    assert count(database, "scopes") == 0
    database.close()


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
    loaded = database.load(scope(0), 0) or {}
    assert loaded[0] == Record(b"d", started=True, outcome=None, attempts=1)
    assert isinstance(loaded[1].outcome, Success)
    assert loaded[2] == Record(b"o", started=True)
    assert ["too large" in r.message for r in caplog.records] == [True, False]
