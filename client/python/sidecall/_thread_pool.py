"""Threads for functions that block."""

import itertools
import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], None]
"""Work that does not raise."""


class NoThreadError(Exception):
    """No thread can be started at present: the process has no room for one."""


class ThreadPool:
    """Threads that are made when they are needed and kept.

    Unlike those of `concurrent.futures` they are daemons: a tool that never returns
    must not keep the process from ending.
    """

    def __init__(self, max_threads: int, name: str) -> None:
        self._max_threads = max_threads
        self._name = name
        self._numbers = itertools.count(1)
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0

    @property
    def threads(self) -> int:
        """Threads that exist."""
        return self._threads

    def submit(self, job: Job) -> None:
        """Runs a job in a thread. To be called from one thread only.

        Raises:
            NoThreadError: A further thread was needed and cannot be started. The job was
                not taken, also where others might have run it later: nobody could say of
                a job in the queue that it has not begun.
        """
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

    def stop(self) -> None:
        """Ends the idle threads, and each busy one when its job is done."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job
            self._idle.release()
