"""A sidecar in a process of its own, for as long as a command takes."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sidecall import AsyncClient
from sidecall_server.cli.errors import StartError
from sidecall_server.cli.parent import FOLDER_VARIABLE

_READY_S = 60.0
_STOP_S = 10.0
_DRAIN = "1s"
_STDERR = 2


@dataclass(frozen=True, slots=True)
class SidecarProcess:
    """A sidecar that runs.

    Attributes:
        client: A client of it.
        pid: Its process.
        address: Where it listens.
    """

    client: AsyncClient
    pid: int
    address: str


@asynccontextmanager
async def sidecar_process(tools: Sequence[str]) -> AsyncIterator[SidecarProcess]:
    """Starts `sidecall serve` on a unix socket and ends it with the block.

    It also ends where this process does not get to the end of the block.

    Args:
        tools: Files and modules to serve.

    Raises:
        StartError: It ended before it served; its own words are on stderr.
        SidecallError: It does not serve in time.
    """
    with tempfile.TemporaryDirectory(prefix="sidecall-") as folder:
        address = f"unix:{folder}/api.sock"
        flags = [part for source in tools for part in ("--tools", source)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecall_server", "serve", "--listen", address),
            *("--log-level", "WARNING", "--drain-timeout", _DRAIN, *flags),
            env={**os.environ, FOLDER_VARIABLE: folder},
            stdin=asyncio.subprocess.PIPE,
            # stdout is for the command's own words, not for what tools print.
            stdout=_STDERR,
            # Ctrl-C is for this process, which ends the other one in its own time.
            start_new_session=True,
        )
        try:
            async with AsyncClient(address) as client:
                await _wait_until_ready(client, process)
                yield SidecarProcess(client, process.pid, address)
        finally:
            await _end(process)


async def _wait_until_ready(client: AsyncClient, process: asyncio.subprocess.Process) -> None:
    ready = asyncio.ensure_future(client.wait_until_ready(_READY_S))
    ended = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            raise StartError(f"the sidecar ended with exit code {ended.result()} before it served")
        await ready
    finally:
        for future in (ready, ended):
            future.cancel()
        await asyncio.gather(ready, ended, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
