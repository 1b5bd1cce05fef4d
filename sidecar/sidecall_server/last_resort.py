"""The end of the process, whatever still runs in it."""

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from queue import Empty, SimpleQueue
from typing import NoReturn

_log = logging.getLogger("sidecall")

_REPORT_S = 0.5


class LastResort:
    """Ends the process when its time is over, however it is stuck.

    A thread does it: tools may hold the event loop, or have started threads that the
    interpreter joins at its exit. It is a daemon, made before there is need of it, when a
    thread may not be to be had.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes the loop whose tasks are named when they are left behind."""
        self._loop = loop
        self._ends: SimpleQueue[float | None] = SimpleQueue()
        threading.Thread(target=self._watch, name="sidecall-last-resort", daemon=True).start()

    def end_within(self, seconds: float) -> None:
        """Sets the time that is left from now, in place of what was set before."""
        self._ends.put(time.monotonic() + seconds)

    def stand_down(self) -> None:
        """Lets the process run."""
        self._ends.put(None)

    def _watch(self) -> None:
        end_s = self._ends.get()
        while end_s is not None:
            left_s = min(max(0.0, end_s - time.monotonic()), threading.TIMEOUT_MAX)
            try:
                end_s = self._ends.get(timeout=left_s)
            except Empty:
                leave_behind(self._loop)


def leave_behind(loop: asyncio.AbstractEventLoop) -> NoReturn:
    """Ends the process with exit code 0 now, and logs what still runs in it."""
    # In a thread of its own: what hangs may hold the lock of the log, or nobody reads it.
    report = threading.Thread(target=_report, args=(loop,), name="sidecall-report", daemon=True)
    with contextlib.suppress(RuntimeError):  # no room for a thread
        report.start()
        report.join(_REPORT_S)
    os._exit(0)


def _report(loop: asyncio.AbstractEventLoop) -> None:
    ours = ("MainThread", "sidecall-last-resort", "sidecall-report")
    threads = [thread.name for thread in threading.enumerate() if thread.name not in ours]
    tasks = [_describe(task) for task in asyncio.all_tasks(loop)]
    _log.warning(
        "what does not end is left behind: tasks: %s; threads: %s",
        ", ".join(sorted(tasks)) or "none",
        ", ".join(sorted(threads)) or "none",
    )
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()


def _describe(task: asyncio.Task[object]) -> str:
    what = getattr(task.get_coro(), "__qualname__", "")
    return f"{task.get_name()} ({what})"
