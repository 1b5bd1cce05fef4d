"""What a store has confirmed survives the death of its process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interaction.store.storing import RETENTION_S, record, scope

from sidecall_server.core.outcome import Success
from sidecall_server.core.records import BATCH, Record
from sidecall_server.store.keeper import StoreOptions
from sidecall_server.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[3]
LONGEST_S = 100
KILLS = 4
ITS_OWN = "each sidecar needs a file of its own"


@contextmanager
def storing(what: str, path: Path, first: int = 0) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: S603  a module of these tests
        [sys.executable, "-m", "tests.interaction.store.storing", what, str(path), str(first)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Whole lines that it prints; a killed process may leave part of one."""
    assert process.stdout is not None
    return (line.strip() for line in process.stdout if line.endswith("\n"))


async def test_nothing_that_was_confirmed_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    confirmed: dict[int, str] = {}
    for kill in range(KILLS):
        with storing("put", path, 1_000_000 * kill) as process:
            said = lines(process)
            assert next(said) == "open", "the lock of a dead process is none"
            for count, line in enumerate(said):
                what, number = line.split()
                confirmed[int(number)] = what
                if count == 300 * (kill + 1):
                    process.kill()
    store = await SqliteStore.open(StoreOptions(path, RETENTION_S))
    try:
        assert len(confirmed) > 300
        for key, what in confirmed.items():
            kept = await store.load(scope(key))
            assert kept is not None
            assert kept[BATCH] == Record(b"batch")
            call = kept[0]
            assert (call.digest, call.started, call.attempts) == (b"digest", True, 1)
            if what == "started" and call.outcome is None:
                continue
            expected = record(key, done=True).outcome
            assert isinstance(call.outcome, Success)
            assert isinstance(expected, Success)
            assert call.outcome.text == expected.text
    finally:
        await store.close()


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    with storing("put", path) as first:
        assert next(lines(first)) == "open"
        with storing("open", path) as second:
            (refused,) = lines(second)
            assert refused == f"refused {path}: is in use by another process: " + ITS_OWN
        first.kill()
        first.wait(LONGEST_S)
        with storing("open", path) as third:
            assert list(lines(third)) == ["open"]


def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    with storing("fill", tmp_path / "records.db") as process:
        assert list(lines(process)) == [
            "open",
            "before True",
            "during False",
            "in memory 1",
            "after True",
        ]
        assert process.wait(LONGEST_S) == 0
