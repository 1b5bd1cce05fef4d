"""Attaches tools."""

from typing import Any

Json = dict[str, Any]


class Hosts:
    """Attaches one host at a time."""

    async def run(self, request: Json) -> Json:
        """Starts or stops the host of a request."""
        return {"unsupported": f"no host to {request['action']}"}

    async def close(self) -> None:
        """Stops what still runs."""
