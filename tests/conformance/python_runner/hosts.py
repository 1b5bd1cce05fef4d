"""Attaches tools."""

from typing import Any

from tests.conformance.python_runner.clients import connection_of, error_of
from tests.conformance.python_runner.host_tools import LOG, TOOLS

from sidecall import SidecallError, ToolHost

Json = dict[str, Any]

_ATTACH_S = 30.0


class Hosts:
    """Attaches one host at a time."""

    def __init__(self) -> None:
        self._host: ToolHost | None = None

    async def run(self, request: Json) -> Json:
        """Starts or stops the host of a request."""
        try:
            if request["action"] == "start":
                return await self._start(request)
            return await self._stop()
        except SidecallError as error:
            return {"outcome": "error", "error": error_of(error)}

    async def close(self) -> None:
        """Stops what still runs."""
        if self._host is not None:
            await self._stop()

    async def _start(self, request: Json) -> Json:
        LOG.clear()
        host = ToolHost(
            TOOLS,
            name=request["host_name"],
            max_concurrency=request.get("max_concurrency", 16),
            **connection_of(request["sidecar"]),
        )
        await host.__aenter__()
        try:
            await host.wait_until_attached(_ATTACH_S)
        except BaseException as error:
            # What it was refused with is told already.
            await host.__aexit__(type(error), error, error.__traceback__)
            raise
        self._host = host
        return {"outcome": "attached"}

    async def _stop(self) -> Json:
        host, self._host = self._host, None
        if host is not None:
            await host.__aexit__(None, None, None)
        return {"outcome": "stopped", "log": list(LOG)}
