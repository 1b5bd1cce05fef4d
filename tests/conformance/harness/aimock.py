"""A model server that others wrote (npm @copilotkit/aimock), as a process."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.conformance.harness.languages import ROOT, BuildError

_SOURCE = Path(__file__).resolve().parents[1] / "aimock"
_FOLDER = ROOT / "build" / "conformance" / "aimock"
_FILES = ("package.json", "package-lock.json", "server.mjs")
_ANSWER_S = 60.0
_INSTALL_S = 600


def lacks() -> str:
    """Why it cannot run here; empty where it can."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    return f"{', '.join(missing)} not found" if missing else ""


def install() -> None:
    """Installs it into the build folder, unless it is there.

    Raises:
        BuildError: npm failed.
    """
    ready = _FOLDER / "ready"
    wanted = "".join((_SOURCE / name).read_text() for name in _FILES)
    if ready.exists() and ready.read_text() == wanted:
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copy(_SOURCE / name, _FOLDER)
    command = ("npm", "ci", "--no-audit", "--no-fund")
    done = subprocess.run(  # noqa: S603  fixed command
        command,
        cwd=_FOLDER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_INSTALL_S,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stdout.decode(errors='replace')}")
    ready.write_text(wanted)


class Aimock:
    """The server. An async context manager.

    Attributes:
        url: Where it listens.
    """

    def __init__(self) -> None:
        self.url = ""
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            "node",
            "server.mjs",
            cwd=_FOLDER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            await self.script([])
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def script(self, fixtures: Sequence[Any]) -> int:
        """Takes the turns of the next chat; returns how many requests the last one made.

        Raises:
            TimeoutError: It does not answer.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"fixtures": fixtures}).encode() + b"\n")
        await self._process.stdin.drain()
        line = await asyncio.wait_for(self._process.stdout.readline(), _ANSWER_S)
        answer = json.loads(line)
        self.url = answer["url"]
        requests: int = answer["requests"]
        return requests

    async def _end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
