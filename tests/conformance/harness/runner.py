"""A runner as a process: one JSON object per line, there and back."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any, Self

from tests.conformance.harness.languages import Language

PROTOCOL = 1
_ANSWER_S = 60.0
_END_S = 10.0
_MAX_LINE_BYTES = 256 * 1024 * 1024
_LOG_LINES = 40

Json = dict[str, Any]


class RunnerError(Exception):
    """A runner does not answer, or not as the protocol says."""


class Runner:
    """One process of a language's runner. An async context manager.

    Attributes:
        hello: How it introduced itself.
    """

    def __init__(self, language: Language, endpoint: str, log: Path) -> None:
        """Takes what to start.

        Args:
            language: Its language.
            endpoint: What it finds in SIDECALL_ENDPOINT.
            log: File for its stderr.
        """
        self.hello: Json = {}
        self._language = language
        self._endpoint = endpoint
        self._log = log
        self._last_id = -1
        self._log_start = 0
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._language.run,
                cwd=self._language.folder,
                env=self._language.environment(SIDECALL_ENDPOINT=self._endpoint),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=_MAX_LINE_BYTES,
            )
        try:
            self.hello = await self.ask({"kind": "hello", "protocol": PROTOCOL})
        except BaseException:
            await self._kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_S)
        except TimeoutError:
            await self._kill()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.returncode is None

    async def ask(self, request: Json) -> Json:
        """Sends a request and returns its answer.

        Raises:
            RunnerError: There is no such answer. The process is of no more use then.
        """
        self._log_start = self._log.stat().st_size
        self._last_id += 1
        request_id = str(self._last_id)
        await self.tell({"id": request_id, **request})
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), _ANSWER_S)
            answer = json.loads(line)
        except TimeoutError:
            await self._kill()
            raise RunnerError(f"no answer in {_ANSWER_S:.0f} s{self._tail()}") from None
        except ValueError:
            await self._kill()
            raise RunnerError(f"not an answer: {line[:500]!r}{self._tail()}") from None
        if not isinstance(answer, dict) or answer.get("id") != request_id:
            await self._kill()
            raise RunnerError(f"an answer to {request_id} was due: {line[:500]!r}{self._tail()}")
        if "broken" in answer:
            raise RunnerError(f"the runner failed: {answer['broken']}")
        return answer

    async def tell(self, request: Json) -> None:
        """Sends a request that has no answer."""
        assert self._process.stdin is not None
        line = json.dumps(request, ensure_ascii=False) + "\n"
        with contextlib.suppress(ConnectionError):  # reading tells that it is gone
            self._process.stdin.write(line.encode())
            await self._process.stdin.drain()

    async def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def _tail(self) -> str:
        written = self._log.read_bytes()[self._log_start :]
        lines = written.decode(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join(["; the end of its log:", *lines]) if lines else ""
