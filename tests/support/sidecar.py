"""A real sidecar in a process of its own, for tests."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 30.0
_POLL_S = 0.01
_COMMAND = (sys.executable, "-m", "sidecall_server", "serve")
_ROOT = Path(__file__).resolve().parents[2]

_SIGNS_OF_BUGS = ("Traceback", "never retrieved", "never awaited", "Task was destroyed")


class SidecarProcess:
    """A sidecar in a process of its own. A context manager: killed by its id at the end.

    Attributes:
        address: gRPC target; also what `SIDECALL_ENDPOINT` takes.
        process: The process.
        running: Sidecars of the test; their logs are shown where it fails.
    """

    running: ClassVar[dict[int, "SidecarProcess"]] = {}

    def __init__(self, address: str, log: Path, **settings: object) -> None:
        """Takes what to start.

        Args:
            address: `unix:/path` or `host:port`.
            log: File for what the process writes.
            **settings: By the names of `Settings` and `Limits`, without the unit's suffix,
                for example `tools="a.py,b.py"`, `drain_timeout="2s"`.
        """
        self.address = address
        self._log = log
        self._environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SIDECALL_")},
            "SIDECALL_LISTEN": address,
            **{f"SIDECALL_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes]

    @property
    def socket_path(self) -> Path:
        """The file of its unix socket."""
        return Path(self.address.removeprefix("unix:"))

    def launch(self) -> Self:
        """Starts the process and returns at once."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  fixed command
                _COMMAND,
                cwd=_ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.running[self.process.pid] = self
        return self

    def __enter__(self) -> Self:
        """Starts the process and waits until it listens."""
        self.launch()
        try:
            self.wait_until_listening()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Ends the process, whatever it does."""
        self.kill()

    def wait_until_listening(self) -> None:
        """Polls until connections are taken.

        Raises:
            RuntimeError: The process ended, or takes too long; the text holds its log.
        """
        end_s = time.monotonic() + _START_TIMEOUT_S
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"the sidecar does not listen:\n{self.log()}")
            time.sleep(_POLL_S)

    def _listens(self) -> bool:
        if self.address.startswith("unix:"):
            return _connects(socket.socket(socket.AF_UNIX), self.address.removeprefix("unix:"))
        host, _, port = self.address.rpartition(":")
        return _connects(socket.socket(socket.AF_INET), (host, int(port)))

    def log(self) -> str:
        """What the process has written so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def signs_of_bugs(self) -> list[str]:
        """Lines of the log that no run should write."""
        return [line for line in self.log().splitlines() if any(s in line for s in _SIGNS_OF_BUGS)]

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Waits for the end of the process; returns its exit code."""
        return await asyncio.to_thread(self.process.wait, _END_TIMEOUT_S)

    def kill(self) -> None:
        """Kills the process and waits for it. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(_END_TIMEOUT_S)
        self.running.pop(self.process.pid, None)


def _connects(probe: socket.socket, where: str | tuple[str, int]) -> bool:
    with probe:
        try:
            probe.connect(where)
        except OSError:
            return False
        return True


def free_address() -> str:
    """A TCP address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def logs() -> Iterator[tuple[str, str]]:
    """Titles and logs of the sidecars that run."""
    for pid, sidecar in SidecarProcess.running.items():
        yield f"log of sidecar {pid} on {sidecar.address}", sidecar.log()
