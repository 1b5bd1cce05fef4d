"""Streamed turns that are sent again, as streams or as batches."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import Bench, bench, reasons, text_of
from tests.support.works import DictStore, Works, to

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.stream import StreamIntake

CALLS = [to("read", "a"), to("write", "b"), to("write", "c")]


class Streamed:
    """A turn that is streamed, and that remembers what it has."""

    def __init__(self, b: Bench, intake: StreamIntake) -> None:
        self._bench = b
        self._intake = intake

    async def add(self, calls: Sequence[ToolCall], first: int = 0) -> None:
        for index, call in enumerate(calls, first):
            await self._intake.add(index, call)
            await settle()

    async def seal(self, count: int) -> None:
        await self._intake.seal(count)
        await settle()

    async def close(self) -> None:
        """The client closes its half without a seal."""
        self._intake.abandon("abandoned")
        await settle()

    @property
    def calls(self) -> list[Call]:
        batch = self._intake.batch
        assert batch.done.done()
        return [batch.calls[index] for index in sorted(batch.calls)]


@asynccontextmanager
async def stream(b: Bench, request_id: str = "r", **options: Any) -> AsyncIterator[Streamed]:
    """A streamed turn; where its client does not end it, it has gone."""
    said = BatchOptions(request_id=request_id, **options)
    batch = b.engine.open(said, None, await b.engine.look_up(said, None))
    try:
        yield Streamed(b, StreamIntake(b.engine, batch))
        if batch.done.done():
            await b.engine.remember(batch)
    finally:
        b.engine.close(batch)
        await settle()


async def whole(b: Bench, calls: Sequence[ToolCall] = CALLS) -> list[Call]:
    """Streams a turn to its end."""
    async with stream(b) as turn:
        await turn.add(calls)
        await turn.seal(len(calls))
        return turn.calls


def flags(calls: Sequence[Call]) -> list[bool]:
    return [call.replayed for call in calls]


async def test_streams_and_batches_are_sends_of_the_same_request() -> None:
    works = Works("a", "b", "c")
    async with bench(*works.tools()) as b:
        first = await whole(b)
        batch = await b.run(CALLS, request_id="r")
        again = await whole(b)

        assert flags(first) == [False] * 3
        assert flags(batch) == flags(again) == [True] * 3
        assert [text_of(call) for call in again] == ["did a", "did b", "did c"]
        assert works.counts == {"a": 1, "b": 1, "c": 1}
        b.assert_idle()


async def test_a_batch_is_sent_again_as_a_stream() -> None:
    works = Works("a", "b", "c")
    async with bench(*works.tools()) as b:
        await b.run(CALLS, request_id="r")
        again = await whole(b)

        assert flags(again) == [True] * 3
        assert works.counts == {"a": 1, "b": 1, "c": 1}


async def test_a_stream_that_broke_off_may_go_on_with_more_calls() -> None:
    works = Works("b", "c")
    async with bench(*works.tools()) as b:
        async with stream(b) as turn:
            await turn.add(CALLS[:2])
        assert works.started == ["a"]
        works.open("a")
        await settle()
        again = await b.run(CALLS, request_id="r")

        assert flags(again) == [True, False, False]
        assert reasons(again) == ["OK", "OK", "OK"]
        assert works.counts == {"a": 1, "b": 1, "c": 1}
        b.assert_idle()


async def test_calls_that_an_abandoned_turn_held_run_in_the_next_send() -> None:
    works = Works("a", "b", "c")
    async with bench(*works.tools()) as b:
        async with stream(b) as turn:
            await turn.add(CALLS[:2])
            await turn.close()
            assert reasons(turn.calls) == ["OK", "CANCELLED"]
        again = await whole(b)

        assert flags(again) == [True, False, False]
        assert works.counts == {"a": 1, "b": 1, "c": 1}


async def test_a_stream_joins_a_batch_that_runs() -> None:
    works = Works()
    async with bench(*works.tools()) as b:
        first = await b.start(CALLS, request_id="r")
        async with stream(b) as turn:
            await turn.add(CALLS)
            await turn.seal(3)
            works.open("a", "b", "c")
            await settle()
            assert flags(turn.calls) == [True] * 3

        assert flags(first.calls()) == [False] * 3
        assert works.counts == {"a": 1, "b": 1, "c": 1}
        b.assert_idle()


async def test_another_call_is_refused_and_what_was_started_ends() -> None:
    works = Works("b", "c")
    other = [CALLS[0], to("write", "x"), CALLS[2]]
    async with bench(*works.tools()) as b:
        async with stream(b) as turn:
            await turn.add(CALLS)
        assert works.started == ["a"]
        works.open("a")
        await settle()
        async with stream(b) as turn:
            await turn.add(other[:1])
            with pytest.raises(Rejection) as caught:
                await turn.add(other[1:], 1)
            await turn.close()
            assert flags(turn.calls) == [True]
        again = await b.run(CALLS, request_id="r")

        assert caught.value.reason is RejectionReason.REQUEST_ID_REUSED
        assert reasons(again) == ["OK", "OK", "OK"]
        assert works.counts == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("resend", ["more", "fewer"])
async def test_another_number_of_calls_is_refused_and_does_no_harm(resend: str) -> None:
    works = Works("a", "b", "c", "d")
    async with bench(*works.tools()) as b:
        await b.run(CALLS, request_id="r")
        async with stream(b) as turn:
            await turn.add(CALLS[:2])
            more = turn.add([CALLS[2], to("write", "d")], 2)
            resent = turn.seal(2) if resend == "fewer" else more
            with pytest.raises(Rejection) as caught:
                await resent
            more.close()
            await turn.close()

        assert caught.value.reason is RejectionReason.REQUEST_ID_REUSED
        assert flags(await b.run(CALLS, request_id="r")) == [True] * 3
        assert works.counts == {"a": 1, "b": 1, "c": 1}


async def test_other_calls_after_a_broken_stream_do_no_harm() -> None:
    works = Works("a", "b", "c")
    async with bench(*works.tools()) as b:
        async with stream(b) as turn:
            await turn.add(CALLS[:1])
        with pytest.raises(Rejection):
            await b.run([to("read", "x"), *CALLS], request_id="r")

        assert reasons(await b.run(CALLS, request_id="r")) == ["OK"] * 3


async def test_a_key_in_a_stream() -> None:
    works, store = Works("a", "b", "c"), DictStore()
    keyed = to("write", "b", idempotency_key="k")
    async with bench(*works.tools(), store=store) as b:
        await b.run([keyed])
    async with bench(*works.tools(), store=store.survivor()) as b:
        first = await whole(b, [CALLS[0], keyed])

        assert flags(first) == [False, True]
        assert works.counts == {"a": 1, "b": 1}
        b.assert_idle()


async def test_a_stream_survives_a_restart() -> None:
    works, store = Works("a", "b"), DictStore()
    async with bench(*works.tools(), store=store) as b, stream(b) as turn:
        await turn.add(CALLS)
        await turn.seal(3)
        assert works.started == ["a", "b", "c"]
        await store.flush()
        survivor = store.survivor()
    works.open("c")
    async with bench(*works.tools(), store=survivor) as b:
        again = await whole(b)

        assert reasons(again) == ["OK", "OK", "OUTCOME_UNKNOWN"]
        assert flags(again) == [True] * 3
        assert works.counts == {"a": 1, "b": 1, "c": 1}


async def test_an_unreadable_store_ends_the_turn_before_the_call() -> None:
    works, store = Works("a"), DictStore()
    async with bench(*works.tools(), store=store) as b:
        async with stream(b) as turn:
            await turn.add(CALLS[:1])
            store.is_readable = False
            with pytest.raises(Rejection) as caught:
                await turn.add([to("write", "b", idempotency_key="k")], 1)
            await turn.close()
            assert reasons(turn.calls) == ["OK"]

        assert caught.value.reason is RejectionReason.STORE_UNAVAILABLE
        assert works.started == ["a"]
        await asyncio.sleep(0)
        b.assert_idle()
