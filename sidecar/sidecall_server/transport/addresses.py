"""Addresses that the sidecar listens on."""

import contextlib
import fcntl
import ipaddress
import os
import re
import socket
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SOCKET_MODE = 0o660
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_PORT = re.compile(r"[0-9]{1,5}")
_MAX_PATH_BYTES = 107 if sys.platform == "linux" else 103
"""What a socket's address holds, without the zero at its end."""


class AddressError(Exception):
    """An address is malformed, or taken."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port.

    Attributes:
        host: Name or address; IPv6 without brackets.
        port: 0 means a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a unix socket."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Parses `host:port`, `[ipv6]:port` or `unix:/path`.

    Raises:
        AddressError: It is none of them.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path or "\0" in path:
            raise AddressError(f"{text!r}: a path must follow unix:")
        return UnixAddress(Path(path).absolute())
    host, separator, port = text.rpartition(":")
    if not separator or _PORT.fullmatch(port) is None or int(port) > 65_535:
        raise AddressError(f"{text!r} is neither host:port nor unix:/path")
    return TcpAddress(host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port))


class UnixSocketGuard:
    """Owns the path of a unix socket while a server listens on it.

    gRPC itself would take the path of a live server over without a word. The lock beside
    it tells a live owner from a file that a dead one has left.
    """

    def __init__(self, address: UnixAddress) -> None:
        self._path = address.path
        self._lock_path = address.path.with_name(address.path.name + ".lock")
        self._lock: int | None = None

    def claim(self) -> None:
        """Takes the path.

        Raises:
            AddressError: Another process listens on it, it is not a socket, or the system
                refuses. Nothing is held then.
        """
        size = len(os.fsencode(self._path))
        if size > _MAX_PATH_BYTES:
            raise AddressError(
                f"unix:{self._path}: cannot listen on it: the path takes {size} bytes, "
                f"at most {_MAX_PATH_BYTES} are possible"
            )
        with self._explained():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._lock_path, _LOCK_FLAGS, 0o600)
        try:
            with self._explained():
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove_stale()
        except AddressError:
            self._unlock()
            raise

    def open_to_group(self) -> None:
        """Lets the owner and the group connect, nobody else.

        Raises:
            AddressError: The system refuses.
        """
        with self._explained():
            self._path.chmod(_SOCKET_MODE)

    def release(self) -> None:
        """Gives the path back. Idempotent."""
        if self._lock is not None:
            # What cannot be removed is stale, and the next owner deals with it.
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._unlock()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what the system says into an AddressError."""
        try:
            yield
        except BlockingIOError:
            raise self._taken() from None
        except OSError as error:
            raise AddressError(f"unix:{self._path}: {error.strerror}") from None

    def _unlock(self) -> None:
        if self._lock is not None:
            # The lock file stays: whoever waits for it may have it open already.
            os.close(self._lock)
            self._lock = None

    def _remove_stale(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise AddressError(f"unix:{self._path}: exists and is not a socket")
            if self._is_live():
                raise self._taken()
            self._path.unlink()

    def _is_live(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._path))
            except OSError:
                return False
            return True

    def _taken(self) -> AddressError:
        return AddressError(f"unix:{self._path}: another process listens on it")
