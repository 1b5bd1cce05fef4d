"""One sidecar behind real channels for all examples of a module."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
import uvloop
from tests.support.recorded_tools import Recorder, recorded_tools
from tests.support.serving import Serving, is_idle, start_serving, stub_of

T = TypeVar("T")
_CHANNELS = 3


class World:
    """A sidecar that stays, and channels to it.

    Attributes:
        recorder: What its tools did.
        serving: The sidecar.
        stubs: Its service, over a connection each.
    """

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._stack = AsyncExitStack()
        self.recorder = Recorder()
        self.serving: Serving
        self.stubs: list[Any] = []

    async def open(self, folder: Path) -> None:
        """Starts the sidecar."""
        settings = {"listen": f"unix:{folder}/api.sock"}
        serving = start_serving(settings, recorded_tools(self.recorder))
        self.serving = await self._stack.enter_async_context(serving)
        for number in range(_CHANNELS):
            options = [("sidecall.channel", number), ("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.insecure_channel(self.serving.address, options)
            self.stubs.append(stub_of(await self._stack.enter_async_context(channel)))

    async def close(self) -> None:
        """Stops the sidecar."""
        await self._stack.aclose()

    def run(self, example: Coroutine[Any, Any, T]) -> T:
        """Runs one example; afterwards the sidecar must be idle."""
        self.recorder.clear()
        return self._runner.run(self._until_idle(example))

    async def _until_idle(self, example: Coroutine[Any, Any, T]) -> T:
        result = await example
        await self.serving.until(is_idle)
        return result


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A sidecar with the recorded tools."""
    folder = Path(tempfile.mkdtemp(prefix="sidecall-"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        made = World(runner)
        runner.run(made.open(folder))
        try:
            yield made
        finally:
            runner.run(made.close())
    shutil.rmtree(folder)
