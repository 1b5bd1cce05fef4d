"""Calls that arrive one by one: what starts early, what waits for the seal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import Gate, bench, bound, echo, fail, reasons, text_of

from sidecall_server.core.call import BatchOptions, BlockCause, Call, Mode, OnFailure, ToolCall
from sidecall_server.core.events import CallEvent, Finished, Queued, Started
from sidecall_server.core.tool import Effects
from sidecall_server.engine.stream import ProtocolError, StreamIntake


class StreamedTurn:
    """A turn that is sent call by call.

    Attributes:
        reads: Calls of the read-only tool `read`.
        writes: Calls of the tool `write`.
        events: What was reported.
    """

    def __init__(self) -> None:
        self.reads, self.writes = Gate(), Gate()
        self.events: list[CallEvent] = []
        self.intake: StreamIntake

    def observe(self, event: CallEvent) -> None:
        self.events.append(event)

    async def add(
        self, index: int, name: str, arguments: str = "", *depends_on: str, **fields: Any
    ) -> None:
        await self.intake.add(index, ToolCall(f"c{index}", name, arguments, depends_on, **fields))
        await settle()

    async def seal(self, count: int) -> None:
        await self.intake.seal(count)
        await settle()

    def finish_all(self) -> None:
        self.reads.open(*range(20))
        self.writes.open(*range(20))

    @property
    def done(self) -> bool:
        return self.intake.batch.done.done()

    @property
    def calls(self) -> list[Call]:
        calls = self.intake.batch.calls
        return [calls[index] for index in range(len(calls))]

    @property
    def reasons(self) -> list[str]:
        assert self.done
        return reasons(self.calls)

    def queued(self, index: int) -> list[tuple[BlockCause, tuple[int, ...]]]:
        return [
            (BlockCause(event.cause), event.waiting_for)
            for event in self.events
            if isinstance(event, Queued) and event.index == index
        ]


@asynccontextmanager
async def streamed(**options: Any) -> AsyncIterator[StreamedTurn]:
    turn = StreamedTurn()
    read_only = Effects.READ_ONLY
    async with bench(
        bound("read", turn.reads, effects=read_only),
        bound("write", turn.writes),
        bound("idempotent", turn.writes, effects=Effects.IDEMPOTENT),
        bound("echo", echo, effects=read_only),
        bound("fail", fail, effects=read_only),
    ) as b:
        batch = b.engine.open(BatchOptions(**options), turn.observe)
        turn.intake = StreamIntake(b.engine, batch)
        try:
            yield turn
            assert turn.done
            finished = [e.index for e in turn.events if isinstance(e, Finished)]
            assert sorted(finished) == sorted(batch.calls)
        finally:
            b.engine.close(batch)
        await settle()
        b.assert_idle()


async def test_only_read_only_tools_start_before_the_seal() -> None:
    async with streamed() as turn:
        await turn.add(0, "write")
        await turn.add(1, "read")
        await turn.add(2, "idempotent")
        await turn.add(3, "unknown")
        assert turn.reads.started == [1]
        assert turn.writes.started == []
        await turn.seal(4)

        assert turn.writes.started == [0, 2]
        turn.finish_all()
        await settle()
        assert turn.reasons == ["OK", "OK", "OK", "TOOL_NOT_FOUND"]


async def test_an_abandoned_turn_has_caused_no_effect() -> None:
    async with streamed() as turn:
        await turn.add(0, "write")
        await turn.add(1, "read")
        await turn.add(2, "read", "", "c1")
        turn.intake.abandon("gone")
        await settle()
        assert not turn.done  # what runs may finish
        turn.finish_all()
        await settle()

        assert turn.reasons == ["CANCELLED", "OK", "CANCELLED"]
        assert turn.writes.started == []
        assert turn.reads.started == [1]


async def test_abandoning_after_the_seal_is_only_the_end_of_sending() -> None:
    async with streamed() as turn:
        await turn.add(0, "write")
        await turn.seal(1)
        turn.intake.abandon("gone")
        turn.finish_all()
        await settle()

        assert turn.reasons == ["OK"]


async def test_a_read_only_call_starts_early_when_what_it_refers_to_is_done() -> None:
    async with streamed() as turn:
        await turn.add(0, "read")
        await turn.add(1, "echo", '{"text": "$ref:c0"}')
        await turn.add(2, "echo", '{"text": "<${ref:@2}>"}')
        turn.reads.open(0)
        await settle()

        assert [text_of(call) for call in turn.calls] == ["result 0", "result 0", "<result 0>"]
        assert turn.queued(1) == [(BlockCause.REFERENCE, (0,))]
        await turn.seal(3)


async def test_references_forward_and_by_tool_name_wait_for_the_seal() -> None:
    async with streamed() as turn:
        turn.finish_all()
        await turn.add(0, "echo", '{"text": "$ref:@3"}')
        await turn.add(1, "echo", '{"text": "$ref:read"}')
        await turn.add(2, "read")
        assert turn.calls[2].outcome is not None
        assert [call.outcome for call in turn.calls[:2]] == [None, None]
        assert turn.queued(0) == [(BlockCause.SEAL, ())]
        await turn.seal(3)

        assert [text_of(call) for call in turn.calls] == ["result 2"] * 3


async def test_a_tools_name_that_was_called_twice_by_the_seal_names_nothing() -> None:
    async with streamed() as turn:
        turn.finish_all()
        await turn.add(0, "read")
        await turn.add(1, "echo", '{"text": "$ref:read"}')
        await turn.add(2, "read")
        await turn.seal(3)

        assert turn.reasons == ["OK", "REFERENCE_UNRESOLVED", "OK"]


async def test_calls_may_be_sent_in_any_order() -> None:
    async with streamed() as turn:
        turn.finish_all()
        await turn.add(2, "echo", '{"text": "$ref:@1"}')
        await turn.add(0, "read")
        await turn.add(1, "write", "", "@3")
        await turn.seal(3)

        assert turn.reasons == ["OK", "OK", "OK"]
        assert text_of(turn.calls[2]) == "result 0"


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]])
async def test_every_call_of_a_cycle_is_refused_in_whatever_order_it_came(order: list[int]) -> None:
    async with streamed() as turn:
        for index in order:
            await turn.add(index, "echo", f'{{"text": "$ref:@{(index - 1) % 3 + 1}"}}')
        await turn.add(3, "echo", '{"text": "$ref:@1"}')
        await turn.add(4, "echo", '{"text": "$ref:@5"}')
        await turn.add(5, "echo")
        await turn.seal(6)

        assert turn.reasons == [
            *["REFERENCE_CYCLE"] * 3,
            "DEPENDENCY_FAILED",
            "REFERENCE_CYCLE",
            "OK",
        ]


async def test_a_cycle_stops_a_sequential_turn_only_at_its_turn() -> None:
    """As in ExecuteBatch: errors found before a start count when the call's turn has come."""
    async with streamed(mode=Mode.SEQUENTIAL, on_failure=OnFailure.STOP) as turn:
        turn.finish_all()
        await turn.add(0, "write")
        await turn.add(1, "echo", '{"text": "$ref:@3"}')
        await turn.add(2, "echo", '{"text": "$ref:@2"}')
        await turn.add(3, "write")
        await turn.seal(4)

        assert turn.reasons == ["OK", "REFERENCE_CYCLE", "STOPPED", "STOPPED"]


@pytest.mark.parametrize("mode", list(Mode))
async def test_what_depends_on_a_call_that_was_cancelled_before_the_seal_fails(mode: Mode) -> None:
    async with streamed(mode=mode) as turn:
        turn.finish_all()
        await turn.add(0, "echo", '{"text": "$ref:write"}')  # not planned before the seal
        await turn.add(1, "write")
        await turn.add(2, "echo", "", "@1")
        await turn.add(3, "write", "", "@2")
        turn.intake.cancel(0)
        turn.intake.cancel(1)
        await turn.seal(4)

        assert turn.reasons == ["CANCELLED", "CANCELLED", "DEPENDENCY_FAILED", "DEPENDENCY_FAILED"]


async def test_cancelling_a_running_call_costs_only_that_call() -> None:
    async with streamed() as turn:
        await turn.add(0, "read")
        await turn.add(1, "read")
        turn.intake.cancel(0)
        turn.intake.cancel(0)
        turn.intake.cancel(17)
        await settle()
        assert turn.reads.cancelled == [0]
        turn.finish_all()
        await settle()
        turn.intake.cancel(1)
        await turn.seal(2)

        assert turn.reasons == ["CANCELLED", "OK"]


async def test_sequential_calls_start_early_only_in_their_turn() -> None:
    async with streamed(mode=Mode.SEQUENTIAL) as turn:
        await turn.add(1, "read")
        assert turn.reads.started == []  # call 0 may still come
        await turn.add(0, "read")
        assert turn.reads.started == [0]
        await turn.add(2, "write")
        await turn.add(3, "read")
        turn.finish_all()
        await settle()
        assert turn.reads.started == [0, 1]
        await turn.seal(4)

        assert turn.reasons == ["OK"] * 4
        starts = [event.index for event in turn.events if isinstance(event, Started)]
        assert starts == [0, 1, 2, 3]


async def test_a_failure_stops_what_was_not_started_and_what_comes_later() -> None:
    async with streamed(on_failure=OnFailure.STOP) as turn:
        await turn.add(0, "read")
        await turn.add(1, "write")
        await turn.add(2, "fail")
        await turn.add(3, "read")
        turn.finish_all()
        await turn.seal(4)

        assert turn.reasons == ["OK", "STOPPED", "TOOL_FAILED", "STOPPED"]
        assert turn.writes.started == []


async def test_the_protocol_is_enforced() -> None:
    async with streamed() as turn:
        turn.finish_all()
        await turn.add(0, "read")
        with pytest.raises(ProtocolError, match="index 0 was sent twice"):
            await turn.add(0, "read")
        for index in (-1, 10_000):
            with pytest.raises(ProtocolError, match="is not within 0 and 9999"):
                await turn.add(index, "read")
        for count in (0, 2):
            with pytest.raises(ProtocolError, match=f"the seal says {count} calls, 1 were sent"):
                await turn.seal(count)
        await turn.seal(1)
        with pytest.raises(ProtocolError, match="sealed twice"):
            await turn.seal(1)
        with pytest.raises(ProtocolError, match="came after the seal"):
            await turn.add(1, "read")

        assert turn.reasons == ["OK"]


async def test_the_seal_must_name_the_indexes_that_were_sent() -> None:
    async with streamed() as turn:
        turn.finish_all()
        await turn.add(0, "read")
        await turn.add(2, "read")
        with pytest.raises(ProtocolError, match="the seal says 2 calls"):
            await turn.seal(2)
        await turn.add(1, "read")
        await turn.seal(3)

        assert turn.reasons == ["OK"] * 3


async def test_an_empty_turn_is_over_at_its_seal() -> None:
    async with streamed() as turn:
        assert not turn.done
        await turn.seal(0)
