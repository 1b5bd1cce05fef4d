"""Events that wait for a client that does not read."""

from sidecall_server.core.events import CallEvent, PartialOutput, Progress
from sidecall_server.transport.stream import _MANY_EVENTS, _Events


async def test_progress_does_not_pile_up_without_bound() -> None:
    events = _Events()
    for done in range(3 * _MANY_EVENTS):
        events(Progress(done % 2, done))
    events(PartialOutput(0, "kept"))
    waiting = await events.wait()

    assert len(waiting) <= _MANY_EVENTS + 2
    assert waiting[-1] == PartialOutput(0, "kept")
    newest = [event.progress for event in waiting if isinstance(event, Progress)]
    assert max(newest) == 3 * _MANY_EVENTS - 1


async def test_progress_and_output_keep_their_order() -> None:
    events = _Events()
    sent: list[CallEvent] = [
        Progress(0, 1),
        PartialOutput(0, "a"),
        Progress(0, 2),
        PartialOutput(0, "b"),
    ]
    for event in sent:
        events(event)
    assert await events.wait() == sent
