"""A sidecar process that is killed and started again on its address."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.gate import WAIT_S
from tests.support.sidecar import SidecarProcess

TOOLS = Path(__file__).parents[1] / "interaction" / "service" / "kill_tools.py"
"""Tools that write a line when they start."""

_POLL_S = 0.01


class Restarts:
    """A sidecar that serves `TOOLS`, and what they have written.

    Attributes:
        process: The sidecar.
        path: Where its tools write.
    """

    def __init__(self, process: SidecarProcess, folder: Path) -> None:
        self.process = process
        self.path = folder / "lines"

    def arguments(self, name: str, **more: Any) -> dict[str, Any]:
        """Arguments of a call of one of the tools, by which it writes a name."""
        return {"path": str(self.path), "name": name, **more}

    async def restart(self) -> None:
        """Kills the process and starts the next one."""
        self.process.kill()
        self.process.launch()
        await asyncio.to_thread(self.process.wait_until_listening)

    async def until_started(self, count: int) -> None:
        """Polls until so many calls were started."""
        async with asyncio.timeout(WAIT_S):
            while self.lines().total() < count:  # noqa: ASYNC110  files have no events
                await asyncio.sleep(_POLL_S)

    def lines(self) -> Counter[str]:
        """How often each call was started."""
        return Counter(self.path.read_text().split() if self.path.exists() else ())
