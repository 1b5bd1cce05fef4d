"""Threads for functions that block."""

import asyncio
import contextlib
import contextvars
import itertools
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = Callable[[], None]


class NoThreadError(Exception):
    """No thread can be started at present: the process has no room for one."""


class ThreadAbandonedError(Exception):
    """The pool was stopped while the function ran; it may still run."""


class ThreadPool:
    """Threads that are made when they are needed and kept. It belongs to one event loop.

    Unlike those of `concurrent.futures` they are daemons: a function that never returns
    must not keep the process from ending.
    """

    def __init__(self, max_threads: int, name: str) -> None:
        self._max_threads = max_threads
        self._name = name
        self._numbers = itertools.count(1)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._running: set[asyncio.Future[Any]] = set()

    @property
    def threads(self) -> int:
        """Threads that exist."""
        return self._threads

    @property
    def busy(self) -> int:
        """Functions that run or wait for a thread."""
        return len(self._running)

    async def run(self, function: Callable[[], T]) -> T:
        """Runs a function in a thread, with a copy of the caller's context variables.

        A thread cannot be stopped. Where the caller is cancelled, this lasts until the
        function has returned all the same: what it holds is not free before.

        Args:
            function: The function; it must not raise.

        Raises:
            NoThreadError: A further thread was needed and cannot be started. The function
                was not taken, also where a busy thread might have run it later: nobody
                could say of what waits that it has not begun.
            ThreadAbandonedError: The pool was stopped meanwhile.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()
        run = partial(contextvars.copy_context().run, function)
        self._submit(partial(_report, run, ended, loop))
        self._running.add(ended)
        ended.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            while not ended.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((ended,))
            ended.exception()  # whoever is cancelled learns nothing of it
            raise

    async def stop(self, grace_s: float) -> None:
        """Waits for the functions that run; afterwards nobody waits for them any more.

        Each busy thread ends when its function has returned.
        """
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for ended in self._running:
            if not ended.done():
                ended.set_exception(ThreadAbandonedError())
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _submit(self, job: _Job) -> None:
        if not self._idle.acquire(blocking=False) and self._threads < self._max_threads:
            self._start_thread()
        self._jobs.put(job)

    def _start_thread(self) -> None:
        name = f"{self._name}-{next(self._numbers)}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            raise NoThreadError(str(error)) from error
        self._threads += 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job
            self._idle.release()


def _report(
    run: Callable[[], T], ended: asyncio.Future[T], loop: asyncio.AbstractEventLoop
) -> None:
    value = run()
    # The loop may have closed while the function ran: then nobody waits for it.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, ended, value)


def _settle(ended: asyncio.Future[T], value: T) -> None:
    if not ended.done():
        ended.set_result(value)
