"""A runner of the Python client that does one thing wrong, to see that the suite notices."""

import asyncio
import os
import sys
from typing import Any

from tests.conformance.python_runner import __main__ as python_runner

from sidecall import AsyncClient
from sidecall.chat import text

Json = dict[str, Any]


class _Broken(python_runner.Runner):
    def __init__(self, how: str) -> None:
        super().__init__()
        self._kinds["chat"] = getattr(self, f"_{how}", self._kinds["chat"])
        if how == "other_text":
            text.NOT_RUN_LENGTH = "Cut off."
        if how == "other_version":
            self._kinds["hello"] = _old_hello

    async def _dies(self, request: Json) -> Json:
        os._exit(3)

    async def _babbles(self, request: Json) -> Json:
        sys.stdout.buffer.write(b"Hello!\n")
        return await self._chats.run(request)

    async def _lacks_it(self, request: Json) -> Json:
        return {"unsupported": f"no {request['kind']} here"}

    async def _runs_twice(self, request: Json) -> Json:
        async with AsyncClient(request["sidecar"]["endpoint"]) as client:
            await client.call("note", {"text": "once more"})
        return await self._chats.run(request)


async def _old_hello(request: Json) -> Json:
    return {"language": "python", "version": f"0.0.{request['protocol']}"}


if __name__ == "__main__":
    asyncio.run(_Broken(sys.argv[1]).serve())
