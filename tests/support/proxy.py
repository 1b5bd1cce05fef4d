"""A connection that a test can cut."""

import asyncio
from typing import Self


class CuttableProxy:
    """Forwards connections to a TCP address. An async context manager.

    Attributes:
        address: Where it listens.
        connections: How many connections were made so far.
    """

    def __init__(self, target: str) -> None:
        self.address = ""
        self.connections = 0
        self._host, _, self._port = target.rpartition(":")
        self._writers: set[asyncio.StreamWriter] = set()
        self._pipes: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listens on a free port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cuts what is open and stops listening."""
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._pipes:
            await asyncio.wait(self._pipes)

    def cut(self) -> None:
        """Resets all open connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there_reader, there_writer = await asyncio.open_connection(self._host, int(self._port))
        self._writers |= {writer, there_writer}
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            pipe = asyncio.create_task(_pipe(source, sink))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while part := await source.read(65_536):
            sink.write(part)
            await sink.drain()
    except ConnectionError:
        pass  # It was cut, which ends the pipe as well.
    finally:
        sink.close()
