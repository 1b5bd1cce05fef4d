"""Events that wait for a client that does not read."""

from sidecall_server.core.events import CallEvent, Finished, PartialOutput, Progress
from sidecall_server.transport.event_buffer import MANY_EVENTS, MAX_TEXT_BYTES, EventBuffer


async def test_progress_does_not_pile_up_without_bound() -> None:
    events = EventBuffer()
    for done in range(3 * MANY_EVENTS):
        events(Progress(done % 2, done))
    events(PartialOutput(0, "kept"))
    waiting = await events.wait()

    assert len(waiting) <= MANY_EVENTS + 2
    assert waiting[-1] == PartialOutput(0, "kept")
    newest = [event.progress for event in waiting if isinstance(event, Progress)]
    assert max(newest) == 3 * MANY_EVENTS - 1


async def test_progress_and_output_keep_their_order() -> None:
    events = EventBuffer()
    sent: list[CallEvent] = [
        Progress(0, 1),
        PartialOutput(0, "a"),
        Progress(0, 2),
        PartialOutput(0, "b"),
    ]
    for event in sent:
        events(event)
    assert await events.wait() == sent


async def test_partial_output_does_not_pile_up_without_bound() -> None:
    events = EventBuffer()
    part = "x" * 100_000
    for _ in range(500):
        events(PartialOutput(0, part))
    events(Finished(0))
    waiting = await events.wait()
    kept = [event for event in waiting if isinstance(event, PartialOutput)]

    assert 1 <= len(kept) * len(part) <= MAX_TEXT_BYTES + len(part)
    assert waiting[-1] == Finished(0)
    events(PartialOutput(1, "after the client has read"))
    assert await events.wait() == [PartialOutput(1, "after the client has read")]


async def test_many_small_parts_count_for_what_they_take() -> None:
    events = EventBuffer()
    for _ in range(MAX_TEXT_BYTES // 50):
        events(PartialOutput(0, "x"))

    assert len(await events.wait()) < MAX_TEXT_BYTES // 100


async def test_text_of_progress_does_not_pile_up() -> None:
    events = EventBuffer()
    for done in range(200):
        events(Progress(0, done, message=f"{done}" + "x" * 100_000))
    waiting = await events.wait()

    assert len(waiting) * 100_000 <= MAX_TEXT_BYTES + 200_000
    assert isinstance(waiting[-1], Progress)
    assert waiting[-1].progress == 199
