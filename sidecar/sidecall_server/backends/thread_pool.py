"""Threads for functions that block."""

import itertools
import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], None]
"""Work that does not raise."""


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
        """Runs a job in a thread. To be called from one thread only."""
        self._jobs.put(job)
        if self._idle.acquire(blocking=False) or self._threads >= self._max_threads:
            return
        self._threads += 1
        name = f"{self._name}-{next(self._numbers)}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

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
