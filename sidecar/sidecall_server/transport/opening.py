"""The first message of a stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.engine import Engine
from sidecall_server.transport.idle import IdleTimer

M = TypeVar("M")

_FIRST_MESSAGE_S = 0.5
"""Seconds that the first message may take once the sidecar drains."""


async def first_message(engine: Engine, messages: AsyncIterator[M], rpc: str) -> M | None:
    """The first message; None where the client sends none, or not before the sidecar drains.

    It is awaited also where the stream will be refused: a refusal that crosses a message
    reaches clients of grpc.aio as INTERNAL.

    Args:
        engine: Says when the sidecar drains.
        messages: What the client sends.
        rpc: Name of the RPC, for people.

    Raises:
        Rejection: It did not come in time.
    """
    late = asyncio.Event()
    timeout_s = engine.limits.stream_start_timeout_s
    timer = IdleTimer(engine.clock, timeout_s, late.set)
    first = asyncio.ensure_future(anext(messages, None))
    waits = asyncio.create_task(late.wait())
    try:
        await asyncio.wait((first, waits, engine.draining), return_when=asyncio.FIRST_COMPLETED)
        if late.is_set() and not first.done():
            raise Rejection(
                RejectionReason.REQUEST_INVALID,
                f"{rpc}: no first message came within {timeout_s:g} s",
            )
        await asyncio.wait((first,), timeout=_FIRST_MESSAGE_S)
        return first.result() if first.done() else None
    finally:
        timer.stop()
        waits.cancel()
        first.cancel()
