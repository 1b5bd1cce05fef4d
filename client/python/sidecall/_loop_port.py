"""What connects tools with the event loop that serves them."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


class LoopPort:
    """The common part of ports whose calls an event loop looks after. Made on that loop."""

    __slots__ = ("_cancelled", "_loop", "_thread_id")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes the loop that is running."""
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether the attempt has been told to end."""
        return self._cancelled.is_set()

    def wait_cancelled(self, timeout_s: float | None) -> bool:
        """Blocks the calling thread until the attempt is told to end."""
        return self._cancelled.wait(timeout_s)

    def cancel(self) -> None:
        """Tells the attempt to end."""
        self._cancelled.set()

    def call_on_loop(
        self, function: Callable[P, None], *arguments: P.args, **options: P.kwargs
    ) -> None:
        """Calls a function on the loop: at once there, soon from another thread."""
        if threading.get_ident() == self._thread_id:
            function(*arguments, **options)
            return
        # A loop that has closed has nobody left who listens.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: function(*arguments, **options))
