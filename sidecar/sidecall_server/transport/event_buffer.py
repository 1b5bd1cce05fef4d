"""Events that were not sent yet."""

import asyncio
import sys

from sidecall_server.core.events import CallEvent, PartialOutput, Progress

MANY_EVENTS = 10_000
"""Events above which only the newest progress of each call is kept."""

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Memory for text of partial output and progress above which partial output is dropped."""

_EVENT_BYTES = 64


class EventBuffer:
    """Takes the events of one turn. All that occur in one loop turn go into one message.

    A client that does not read must not fill the memory: then partial output is dropped,
    and of each call's progress only the newest is kept. Everything else is kept.
    """

    def __init__(self) -> None:
        self._events: list[CallEvent] = []
        self._progress: dict[int, int] = {}  # position of the newest progress of each call
        self._text_bytes = 0
        self._some = asyncio.Event()

    def __call__(self, event: CallEvent) -> None:
        """Takes an event, or leaves it out."""
        if type(event) is PartialOutput:
            if self._text_bytes >= MAX_TEXT_BYTES:
                return
            self._text_bytes += sys.getsizeof(event.text) + _EVENT_BYTES
        elif type(event) is Progress:
            self._text_bytes += sys.getsizeof(event.message) + _EVENT_BYTES
            newest = self._progress.get(event.index)
            if newest is not None and self._is_full():
                self._text_bytes -= self._replace(newest, event)
                return
            self._progress[event.index] = len(self._events)
        self._events.append(event)
        self._some.set()

    def _is_full(self) -> bool:
        return len(self._events) > MANY_EVENTS or self._text_bytes >= MAX_TEXT_BYTES

    def _replace(self, position: int, event: Progress) -> int:
        """Puts newer progress in place of older; returns the memory that this frees."""
        older = self._events[position]
        self._events[position] = event
        assert isinstance(older, Progress)  # noqa: S101  only their positions are kept
        return sys.getsizeof(older.message) + _EVENT_BYTES

    def wake(self) -> None:
        """Ends a `wait` although nothing happened."""
        self._some.set()

    async def wait(self) -> list[CallEvent]:
        """Waits for events and takes them; may be empty after `wake`."""
        await self._some.wait()
        self._some.clear()
        events, self._events = self._events, []
        self._progress.clear()
        self._text_bytes = 0
        return events
