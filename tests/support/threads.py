"""Servers that block nobody, for tests of blocking code."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

_T = TypeVar("_T")


@contextmanager
def running_in_thread(resource: AbstractAsyncContextManager[_T]) -> Iterator[_T]:
    """Enters an async context manager on an event loop in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        entered = asyncio.run_coroutine_threadsafe(_enter(resource), loop).result()
        try:
            yield entered
        finally:
            asyncio.run_coroutine_threadsafe(_leave(resource), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _enter(resource: AbstractAsyncContextManager[_T]) -> _T:
    return await resource.__aenter__()


async def _leave(resource: AbstractAsyncContextManager[_T]) -> None:
    await resource.__aexit__(None, None, None)
