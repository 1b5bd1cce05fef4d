"""How the file of a store is opened: by one process, as its owner's alone."""

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

from sidecall_server.store.errors import StoreError, StoreInUseError

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x5343_4C4C
"""Tells our files from those of other programs."""

_MODE = 0o600
_WAIT_S = 1.0
"""Seconds that a sidecar which is just ending gets to let go of the file."""

_WAL_BYTES = 16 * 1024 * 1024
"""Bytes that the write-ahead log keeps after a checkpoint."""

_SCHEMA = f"""
BEGIN EXCLUSIVE;
CREATE TABLE scopes (
  id INTEGER PRIMARY KEY,
  key TEXT UNIQUE,  -- NULL: forgotten; its records are deleted bit by bit
  used_ms INTEGER NOT NULL
);
CREATE INDEX scopes_by_use ON scopes (used_ms) WHERE key IS NOT NULL;
CREATE TABLE records (
  scope_id INTEGER NOT NULL,
  call_index INTEGER NOT NULL,
  digest BLOB NOT NULL,
  started INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  outcome BLOB,
  approval BLOB,
  PRIMARY KEY (scope_id, call_index)
);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


def open_connection(path: Path) -> sqlite3.Connection:
    """Opens a store's file, or makes it, and keeps other processes out until it is closed.

    Raises:
        StoreInUseError: Another process has it open.
        StoreError: It cannot be opened, or is not ours.
    """
    if not check_file(path):
        _make(path)
    try:
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(path, f"cannot be opened: {error}") from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        if primary_code(error) == sqlite3.SQLITE_BUSY:
            raise StoreInUseError(path, _explain(error)) from error
        raise StoreError(path, _explain(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def aside_of(path: Path) -> Path:
    """Where a damaged file is moved to; the time of its change is that of the move."""
    return path.with_name(path.name + ".damaged")


def set_aside(path: Path, now_ns: int) -> Path:
    """Moves a damaged file and its log away, over an earlier one; returns where to."""
    aside = aside_of(path)
    # Before it is moved: whoever opens the next file must see when this one was lost.
    os.utime(path, ns=(now_ns, now_ns))
    path.replace(aside)
    log = path.with_name(path.name + "-wal")
    if log.exists():
        log.replace(aside.with_name(aside.name + "-wal"))
    return aside


def check_file(path: Path) -> bool:
    """Looks at the place of a store without making, changing or locking anything.

    Returns:
        Whether there is a file.

    Raises:
        StoreError: A store cannot be there.
    """
    try:
        if not path.parent.is_dir():
            raise StoreError(path, f"the folder {path.parent} does not exist")
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise StoreError(path, "is a link to nothing") from None
        _require_writable(path)
        return False
    except OSError as error:
        raise StoreError(path, f"cannot be opened: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise StoreError(path, "is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise StoreError(path, "is not a regular file")
    _require_writable(path)
    # By SQLite: closing the file in any other way would drop the locks of this process.
    place = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(place, uri=True)) as connection:
            _check(connection, path)
    except sqlite3.Error as error:
        raise StoreError(path, _explain(error)) from error
    return True


def _require_writable(path: Path) -> None:
    """Of a file, its folder too: the log stands in it."""
    real = path.resolve()
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise StoreError(path, f"the folder {real.parent} is not writable")
    if real.exists() and not os.access(real, os.R_OK | os.W_OK):
        raise StoreError(path, "may not be read and written")


def _make(path: Path) -> None:
    """As its owner's from the start; SQLite gives its log the mode of the file."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE))
    except FileExistsError:
        # Another process was faster; whether it keeps the file is asked under the lock.
        return
    except OSError as error:
        raise StoreError(path, f"cannot be made: {error.strerror}") from error


def _make_private(path: Path) -> None:
    """Takes the modes of a file that is ours, and of the log that opening it may have made."""
    try:
        path.chmod(_MODE)
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + "-wal").chmod(_MODE)
    except OSError as error:
        raise StoreError(path, f"cannot be made private: {error.strerror}") from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    execute = connection.execute
    # SQLite's own lock, taken here and held until the end: the system drops it when the
    # process dies, and a child that is forked does not inherit it.
    execute("PRAGMA locking_mode = EXCLUSIVE")
    execute("BEGIN EXCLUSIVE")
    # Again: what is in the log alone is seen under the lock only.
    is_new = _check(connection, path)
    _make_private(path)
    execute("COMMIT")
    ((mode,),) = execute("PRAGMA journal_mode = WAL").fetchall()
    if mode != "wal":
        raise StoreError(path, "its file system allows no write-ahead log")
    # A commit hands its pages to the system, which keeps them when the process is killed:
    # "transactions are durable across application crashes regardless of the synchronous
    # setting or journal mode" (sqlite.org/pragma.html#pragma_synchronous). NORMAL waits for
    # the disk at checkpoints alone: when the power fails the last commits may be lost, but
    # unlike with OFF the file stays whole.
    execute("PRAGMA synchronous = NORMAL")
    execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    if is_new:
        connection.executescript(_SCHEMA)


def _check(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty; raises where it is not ours, before anything is changed."""

    def number(question: str) -> int:
        ((value,),) = connection.execute(question).fetchall()
        return int(value)

    application_id = number("PRAGMA application_id")
    if application_id == 0 and not number("SELECT count(*) FROM sqlite_master"):
        return True
    if application_id != _APPLICATION_ID:
        raise StoreError(path, "is the database of another program")
    version = number("PRAGMA user_version")
    if version > SCHEMA_VERSION:
        raise StoreError(
            path,
            f"was written by a newer sidecar (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): use that one, or another file",
        )
    return False


def _explain(error: sqlite3.Error) -> str:
    code = primary_code(error)
    if code == sqlite3.SQLITE_BUSY:
        return "is in use by another process: each sidecar needs a file of its own"
    if code == sqlite3.SQLITE_NOTADB:
        return "is not a database"
    if code == sqlite3.SQLITE_CORRUPT:
        return f"is damaged ({error}): move it away to begin with an empty one"
    return f"cannot be opened: {error}"


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's result code, without the details of extended ones; None where it gave none."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
