import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecall_server.store.errors import StoreError, StoreInUseError
from sidecall_server.store.opening import check_file, open_connection


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_its_files_are_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    connection = open_connection(path)
    connection.execute("INSERT INTO scopes (key, used_ms) VALUES ('k', 1)")
    assert {file.name: mode(file) for file in tmp_path.iterdir()} == {
        "records.db": 0o600,
        "records.db-wal": 0o600,
    }
    connection.close()
    path.chmod(0o644)
    open_connection(path).close()
    assert mode(path) == 0o600


def test_the_file_is_for_one_store(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    connection = open_connection(path)
    with pytest.raises(StoreInUseError, match="in use by another process") as caught:
        open_connection(path)
    assert caught.value.path == path
    connection.close()
    open_connection(path).close()


def test_folders_are_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none" / "records.db"
    with pytest.raises(StoreError, match=f"^{re.escape(str(path))}: the folder .*/none does not"):
        open_connection(path)
    with pytest.raises(StoreError, match="is a folder, not a file"):
        open_connection(tmp_path)


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened: File name too long"):
        open_connection(tmp_path / ("x" * 300))


def test_a_file_that_another_makes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.db"
    connection = open_connection(path)
    monkeypatch.setattr("sidecall_server.store.opening.check_file", lambda path: False)
    with pytest.raises(StoreInUseError):
        open_connection(path)
    connection.close()


def test_other_files_stay_as_they_are(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("Remember the milk. " * 100)
    with pytest.raises(StoreError, match="is not a database"):
        open_connection(text)
    assert text.read_text() == "Remember the milk. " * 100
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE scopes (name)")
    connection.close()
    before = other.read_bytes()
    with pytest.raises(StoreError, match="database of another program"):
        open_connection(other)
    assert other.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    connection = open_connection(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(StoreError, match=r"newer sidecar \(schema 7, this one knows 1\)"):
        open_connection(path)


def test_a_damaged_file_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    open_connection(path).close()
    data = bytearray(path.read_bytes())
    data[100:200] = b"\xff" * 100
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"is damaged .*: move it away"):
        open_connection(path)


def test_one_that_died_before_its_tables_were_made(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    path.touch()
    connection = open_connection(path)
    assert connection.execute("SELECT count(*) FROM records").fetchall() == [(0,)]
    connection.close()


def tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE scopes (name)")
    connection.close()


def text(path: Path) -> None:
    path.write_text("Remember the milk.")


def unfinished(path: Path) -> None:
    """A foreign database whose tables are in its log alone."""
    origin = path.with_name("origin.db")
    with sqlite3.connect(origin) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE scopes (name)")
        for end in ("", "-wal"):
            Path(f"{path}{end}").write_bytes(Path(f"{origin}{end}").read_bytes())
    connection.close()


@pytest.mark.parametrize("make", [tables, text, unfinished])
@pytest.mark.parametrize("look", [open_connection, check_file])
def test_files_of_others_keep_their_mode(
    tmp_path: Path, make: Callable[[Path], None], look: Callable[[Path], object]
) -> None:
    path = tmp_path / "other.db"
    make(path)
    path.chmod(0o644)
    before = path.stat()
    if make is unfinished and look is check_file:
        look(path)
    else:
        with pytest.raises(StoreError, match=r"not a database|database of another program"):
            look(path)
    assert path.stat().st_mode == before.st_mode
    assert not path.with_name("other.db-journal").exists()


@pytest.mark.parametrize("look", [open_connection, check_file])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_regular_files_are_opened(
    tmp_path: Path, make: Callable[[Path], None], look: Callable[[Path], object]
) -> None:
    special = tmp_path / "special"
    make(special)
    special.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(special)
    for path in (special, link):
        with pytest.raises(StoreError, match=r"is a folder|is not a regular file"):
            look(path)
    assert mode(special) == 0o755
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "special"]


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(StoreError, match="is a link to nothing"):
        open_connection(link)


@pytest.mark.parametrize("look", [open_connection, check_file])
@pytest.mark.parametrize("exists", [True, False])
def test_what_may_not_be_written_is_refused(
    tmp_path: Path,
    look: Callable[[Path], object],
    exists: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = tmp_path / "link.db" if exists else folder / "records.db"
    if exists:
        open_connection(folder / "records.db").close()
        path.symlink_to(folder / "records.db")
    access, refused = os.access, {str(folder)}
    monkeypatch.setattr(  # who runs the tests may be allowed everything
        os, "access", lambda at, mode: str(at) not in refused and access(at, mode)
    )
    with pytest.raises(StoreError, match=f"the folder {folder} is not writable"):
        look(path)
    if exists:
        refused = {str(folder / "records.db")}
        with pytest.raises(StoreError, match="may not be read and written"):
            look(path)


def test_a_look_makes_nothing_and_leaves_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    check_file(path)
    assert not path.exists()
    with pytest.raises(StoreError, match=r"the folder .*/none does not exist"):
        check_file(tmp_path / "none" / "records.db")
    connection = open_connection(path)

    def states() -> dict[str, tuple[int, int, int]]:
        found = {file.name: file.stat() for file in tmp_path.iterdir()}
        return {name: (s.st_mode, s.st_size, s.st_mtime_ns) for name, s in found.items()}

    before = states()
    check_file(path)
    assert states() == before
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN EXCLUSIVE')"
    done = subprocess.run(  # noqa: S603  fixed command
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "database is locked" in done.stderr
    connection.close()
