"""A place where tools wait until a test lets them go on, in whatever process they run."""

import asyncio
import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Self

WAIT_S = 30.0
"""Bound of every wait; reached only where something is broken."""


class Visit:
    """A tool that stands at the gate.

    Attributes:
        name: What it calls itself.
    """

    def __init__(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.name = name
        self._reader = reader
        self._writer = writer

    def release(self, answer: str = "released") -> None:
        """Lets the tool go on; it gets the answer."""
        self._writer.write(answer.encode() + b"\n")

    async def said(self) -> str:
        """The next line that the tool says; empty when it has left."""
        async with asyncio.timeout(WAIT_S):
            return (await self._reader.readline()).decode().strip()

    async def left(self) -> None:
        """Waits until the tool is gone: it returned, was cancelled, or its process died."""
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(1024):
                    pass

    def close(self) -> None:
        """Hangs up."""
        self._writer.close()


class Gate:
    """Listens on a unix socket; `tools.py` beside the tests knows how to stand at it.

    Attributes:
        path: Where tools go; passed to them as an argument.
        names: Names of the tools that came, in order.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.names: list[str] = []
        self._visits: list[Visit] = []
        self._waiting: defaultdict[str, asyncio.Queue[Visit]] = defaultdict(asyncio.Queue)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Opens it."""
        self._server = await asyncio.start_unix_server(self._on_connect, self.path)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Closes it; whoever still stands there sees the connection end."""
        for visit in self._visits:
            visit.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        visit = Visit(name, reader, writer)
        self._visits.append(visit)
        self.names.append(name)
        self._waiting[name].put_nowait(visit)

    async def arrived(self, name: str) -> Visit:
        """Waits until a tool of that name stands here."""
        async with asyncio.timeout(WAIT_S):
            return await self._waiting[name].get()
