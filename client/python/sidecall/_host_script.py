"""Runs something that serves in a script, until a signal comes."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine

_END_S = 0.5
"""Seconds that tasks have to end once they are cancelled."""


def run_until_signal(serve: Callable[[], Coroutine[None, None, None]]) -> None:
    """Serves until SIGTERM or SIGINT, each of which cancels it; it returns then.

    Unlike `asyncio.run` it does not wait for tasks that ignore their cancellation.

    Raises:
        RuntimeError: It is not called in the main thread.
        Exception: Whatever `serve` raises.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run() belongs into the main thread; elsewhere await serve()")
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_until_signal(serve))
    finally:
        _close(loop)


async def _until_signal(serve: Callable[[], Coroutine[None, None, None]]) -> None:
    loop = asyncio.get_running_loop()
    task = loop.create_task(serve())
    is_signalled = False

    def on_signal() -> None:
        nonlocal is_signalled
        is_signalled = True
        task.cancel()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        await asyncio.wait((task,))
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
    if not (is_signalled and task.cancelled()):
        task.result()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_END_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
