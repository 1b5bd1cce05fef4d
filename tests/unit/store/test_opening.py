import re
import sqlite3
from pathlib import Path

import pytest

from sidecall_server.store.errors import StoreError
from sidecall_server.store.opening import open_connection


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
    with pytest.raises(StoreError, match="in use by another process") as caught:
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
    with pytest.raises(StoreError, match="cannot be made private: File name too long"):
        open_connection(tmp_path / ("x" * 300))


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
