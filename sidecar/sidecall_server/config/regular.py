"""Reads files that are files: a pipe or a device in their place must not keep a reload waiting."""

import os
import stat
from pathlib import Path

from sidecall_server.config.errors import ConfigError


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The beginning of a regular file, or of one that links lead to.

    Raises:
        ConfigError: It cannot be read, or is something else.
    """
    try:
        # Twice: opening a pipe or a device does something to it, and it may come in between.
        _require_regular(path, path.stat().st_mode)
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
            _require_regular(path, os.fstat(file.fileno()).st_mode)
            return file.read(max_bytes)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise ConfigError(f"{path}: is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{path}: is not a regular file")
