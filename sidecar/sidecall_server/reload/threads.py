"""Work that may take as long as a file system does: beside the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")


class Run(Protocol):
    """Calls a function and waits for it."""

    def __call__(self, function: Callable[[], _T], /) -> Awaitable[_T]:
        """Returns what the function returns, and raises what it raises."""


async def in_thread(function: Callable[[], _T], /) -> _T:
    """Calls a function in a thread of its own.

    Who is cancelled meanwhile goes on at once. The thread is left behind then, and keeps
    nothing from ending, the process included.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[_T] = loop.create_future()

    def settle(set_future: Callable[[Any], None], value: object) -> None:
        if not ended.done():
            set_future(value)

    def work() -> None:
        try:
            outcome: tuple[Callable[[Any], None], object] = ended.set_result, function()
        except BaseException as error:
            outcome = ended.set_exception, error
        # The loop may have ended meanwhile: then nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, name="sidecall-files", daemon=True).start()
    return await ended
