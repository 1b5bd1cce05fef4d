"""The small parts of a host: pauses, and what waits to be sent."""

import asyncio

from sidecall._host_backoff import Backoff
from sidecall._host_outbox import MAX_REPORT_BYTES, Outbox
from sidecall.v1.tool_host_pb2 import AttachRequest, HostPartialOutput, HostResult


def test_pauses_grow_to_a_bound_with_full_jitter() -> None:
    draws = iter([1.0, 0.5, 0.0, *[1.0] * 10])
    backoff = Backoff(jitter=lambda: next(draws))
    pauses = [backoff.next_s() for _ in range(9)]
    assert pauses == [0.1, 0.1, 0.0, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_what_the_sidecar_asks_for_is_waited_for_in_full() -> None:
    backoff = Backoff(jitter=lambda: 0.5)
    assert [backoff.next_s(3.0), backoff.next_s()] == [3.05, 0.1]


def test_only_an_attachment_that_lasted_begins_the_pauses_anew() -> None:
    now_s = 0.0
    backoff = Backoff(clock=lambda: now_s, jitter=lambda: 1.0)
    assert [backoff.next_s() for _ in range(3)] == [0.1, 0.2, 0.4]
    backoff.attached()
    now_s += 1
    assert backoff.next_s() == 0.8
    now_s += 100
    assert backoff.next_s() == 1.6
    backoff.attached()
    now_s += 10
    assert backoff.next_s() == 0.1


def output(text: str) -> AttachRequest:
    return AttachRequest(partial_output=HostPartialOutput(attempt_id=1, text=text))


RESULT = AttachRequest(result=HostResult(attempt_id=1, text="done"))


async def test_messages_are_sent_in_order_and_after_the_end_none() -> None:
    outbox = Outbox()
    outbox.report(output("a"))
    outbox.put(RESULT)
    outbox.close()
    outbox.put(RESULT)
    assert [await outbox.get() for _ in range(3)] == [output("a"), RESULT, None]


async def test_who_waits_is_woken() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.put(RESULT)
    assert await waiting == RESULT
    waiting = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.close()
    assert await waiting is None


async def test_reports_do_not_fill_the_memory_and_results_always_fit() -> None:
    outbox = Outbox()
    report = output("x" * 1_000_000)
    for _ in range(100):
        outbox.report(report)
    outbox.put(RESULT)
    outbox.close()
    sent = []
    while (message := await outbox.get()) is not None:
        sent.append(message)
    assert sent[-1] == RESULT
    assert sum(message.ByteSize() for message in sent[:-1]) <= MAX_REPORT_BYTES + 1_000_100
    assert len(sent) == 6


async def test_there_is_room_again_when_reports_were_sent() -> None:
    outbox = Outbox()
    large = output("x" * MAX_REPORT_BYTES)
    outbox.report(large)
    outbox.report(output("dropped"))
    assert await outbox.get() == large
    outbox.report(output("kept"))
    assert await outbox.get() == output("kept")


async def test_what_nobody_will_read_is_dropped() -> None:
    outbox = Outbox()
    outbox.put(RESULT)
    outbox.drop()
    assert await outbox.get() is None
