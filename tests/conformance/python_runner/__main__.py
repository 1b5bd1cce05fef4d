"""The runner of the Python client: JSON lines in, JSON lines out."""

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from tests.conformance.python_runner.batches import run_batch
from tests.conformance.python_runner.chats import Chats
from tests.conformance.python_runner.hosts import Hosts

import sidecall

_MAX_LINE_BYTES = 64 * 1024 * 1024

Json = dict[str, Any]


class Runner:
    """Answers requests, one at a time; cancellations at once."""

    def __init__(self) -> None:
        self._chats = Chats()
        self._hosts = Hosts()
        self._kinds: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "hello": _hello,
            "chat": self._chats.run,
            "batch": run_batch,
            "host": self._hosts.run,
        }

    async def serve(self) -> None:
        """Answers until stdin ends."""
        reader = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async with asyncio.TaskGroup() as tasks:
            while line := await reader.readline():
                request = json.loads(line)
                if request["kind"] == "cancel":
                    self._chats.cancel()
                else:
                    tasks.create_task(self._answer(request))
        await self._hosts.close()

    async def _answer(self, request: Json) -> None:
        answer: Json
        if request["kind"] not in self._kinds:
            answer = {"unsupported": f"there is no kind {request['kind']!r}"}
        else:
            try:
                answer = await self._kinds[request["kind"]](request)
            except Exception:
                answer = {"broken": traceback.format_exc()}
        line = json.dumps({"id": request["id"], **answer}, ensure_ascii=False)
        sys.stdout.buffer.write(f"{line}\n".encode())
        sys.stdout.buffer.flush()


async def _hello(request: Json) -> Json:
    return {
        "language": "python",
        "version": sidecall.__version__,
        "library": f"openai {version('openai')}",
        "protocol": request["protocol"],
    }


if __name__ == "__main__":
    asyncio.run(Runner().serve())
