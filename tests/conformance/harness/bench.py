"""What all cases of a run share: a sidecar, the log of its tools, and the proxy in front."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from tests.conformance.harness.certificates import Certificates
from tests.conformance.harness.proxy import RecordingProxy
from tests.support.sidecar import SidecarProcess, free_address

_TOOLS = Path(__file__).resolve().parents[1] / "tools.py"
_WAIT_S = 30.0
_POLL_S = 0.005


class ToolLog:
    """What the tools of the sidecar have done.

    Args:
        path: The file that they write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0
        self._releases: set[Path] = set()

    def begin(self) -> None:
        """Forgets what was done and holds what runs until it is released."""
        self._start = self.path.stat().st_size if self.path.exists() else 0
        for release in self._releases:
            release.unlink()
        self._releases.clear()

    def lines(self) -> list[dict[str, Any]]:
        """What was done since `begin`."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as log:
            log.seek(self._start)
            return [json.loads(line) for line in log.read().splitlines()]

    def counts(self, phase: str) -> dict[str, int]:
        """How often each tool was started, or cancelled."""
        return dict(Counter(line["tool"] for line in self.lines() if line["phase"] == phase))

    def release(self, name: str) -> None:
        """Lets the tools end that run under a name."""
        path = self.path.with_name(f"release-{name}")
        path.touch()
        self._releases.add(path)

    async def until(self, tool: str, phase: str = "started", count: int = 1) -> None:
        """Waits until a tool was started, or cancelled, so many times.

        Raises:
            TimeoutError: It takes too long.
        """
        await until(lambda: self.counts(phase).get(tool, 0) >= count)


async def until(condition: Callable[[], bool]) -> None:
    """Polls until a condition holds.

    Raises:
        TimeoutError: It takes too long.
    """
    async with asyncio.timeout(_WAIT_S):
        while not condition():  # noqa: ASYNC110  other processes make no events
            await asyncio.sleep(_POLL_S)


class Bench:
    """The sidecar and what stands around it. An async context manager.

    Args:
        folder: Place for logs and sockets; its path is short enough for a socket.

    Attributes:
        log: What the tools do.
        sidecar: Address of the sidecar itself.
        proxy: Where clients connect.
        certificates: Files for clients that use TLS; None where this machine cannot make any.
    """

    def __init__(self, folder: Path) -> None:
        self.log = ToolLog(folder / "tools.jsonl")
        self.certificates = Certificates.make(folder)
        self._folder = folder
        self.sidecar = free_address()
        self._sidecar: SidecarProcess
        self._resources = AsyncExitStack()
        self.proxy: RecordingProxy

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            await asyncio.to_thread(self._start)
            resources.callback(self._kill)
            tls = self.certificates.server_credentials() if self.certificates else None
            socket_path = str(self._folder / "proxy.sock")
            self.proxy = await resources.enter_async_context(
                RecordingProxy(self.sidecar, socket_path, self.restart, tls)
            )
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def restart(self, *, drain: bool = False) -> None:
        """Kills or drains the sidecar and starts it again at the same address."""
        if drain:
            self._sidecar.signal(signal.SIGTERM)
            await self._sidecar.ended()
        await asyncio.to_thread(self._sidecar.kill)
        await asyncio.to_thread(self._start)

    def sidecar_log(self) -> str:
        """What the sidecar wrote."""
        return self._sidecar.log()

    def _kill(self) -> None:
        self._sidecar.kill()  # the one that runs by then

    def _start(self) -> None:
        # A third of the silence lies between heartbeats, of which a case waits for one.
        settings = {"tools": _TOOLS, "host_silence_timeout": "9s"}
        sidecar = SidecarProcess(self.sidecar, self._folder / "sidecar.log", **settings)
        sidecar._environ["CONFORMANCE_LOG"] = str(self.log.path)
        self._sidecar = sidecar.__enter__()
