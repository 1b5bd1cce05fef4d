"""The same promises, where calls are sent one by one and in any order."""

import asyncio
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.conftest import World
from tests.support.gate import WAIT_S
from tests.support.promises import (
    NOT_STARTED,
    STATES,
    check_batch,
    check_order,
    check_result,
    check_tool_limits,
    reason_of,
)
from tests.support.random_batches import Expectation, PlannedBatch, PlannedCall, batches
from tests.support.recorded_tools import READ_ONLY, Recorder

from sidecall.v1 import execution_pb2
from sidecall.v1.tool_service_pb2 import (
    BatchEvent,
    BatchSummary,
    StreamBatchRequest,
    StreamCall,
    StreamSeal,
    StreamStart,
)


class SentTurn:
    """One turn as it was sent, and what came back.

    Attributes:
        batch: Its calls.
        events: All events, in order.
        sealed_ns: When the seal was sent; None where it was not.
    """

    def __init__(self, batch: PlannedBatch, rpc: Any) -> None:
        self.batch = batch
        self.events: list[BatchEvent] = []
        self.sealed_ns: int | None = None
        self._rpc = rpc

    async def play(self, order: list[int], pauses: list[bool], *, seal: bool = True) -> None:
        """Sends the calls in an order, with pauses between them, and reads to the end."""
        reader = asyncio.create_task(self._read())
        await self._rpc.write(StreamBatchRequest(start=StreamStart(**self.batch.options)))
        for index, pause in zip(order, pauses, strict=True):
            call = StreamCall(index=index, call=self.batch.message(index))
            await self._rpc.write(StreamBatchRequest(call=call))
            if pause:
                await asyncio.sleep(0.001)
        if seal:
            self.sealed_ns = time.monotonic_ns()
            sealing = StreamSeal(call_count=len(order))
            await self._rpc.write(StreamBatchRequest(seal=sealing))
        await self._rpc.done_writing()
        await reader

    async def _read(self) -> None:
        async for response in self._rpc:
            self.events.extend(response.events)

    def results(self) -> list[execution_pb2.ToolResult]:
        """The results by index; asserts that there is exactly one per call."""
        finished = [event.result for event in self.events if event.HasField("result")]
        assert sorted(f.index for f in finished) == list(range(len(self.batch.calls)))
        return [f.result for f in sorted(finished, key=lambda f: f.index)]

    @property
    def summary(self) -> BatchSummary:
        """What was sent last."""
        return self.events[-1].summary

    def check_events(self) -> None:
        """Asserts that events come in an order that makes sense."""
        kinds = [str(event.WhichOneof("event")) for event in self.events]
        assert (kinds[0], kinds[-1]) == ("accepted", "summary")
        assert (kinds.count("accepted"), kinds.count("summary")) == (1, 1)
        results = self.results()
        for index, result in enumerate(results):
            own = [kind for kind, event in zip(kinds, self.events, strict=True)
                   if getattr(getattr(event, kind), "index", None) == index]  # fmt: skip
            assert own[-1] == "result"
            assert own.count("started") == result.attempts
        assert self.summary.call_count == len(results)
        assert self.summary.ok_count == sum(reason_of(result) == "OK" for result in results)
        assert self.summary.sealed == (self.sealed_ns is not None)
        assert not self.summary.status.code

    def check_early_starts(self, recorder: Recorder) -> None:
        """Asserts that nothing with an effect was started before the seal."""
        keys = set(self.batch.keys)
        for mark in recorder.marks:
            if mark.what == "start" and mark.key in keys and mark.tool not in READ_ONLY:
                assert self.sealed_ns is not None
                assert mark.time_ns >= self.sealed_ns


@st.composite
def turns(draw: st.DrawFn) -> tuple[PlannedBatch, list[int], list[bool]]:
    """A batch, the order in which its calls are sent, and where the sender pauses."""
    batch = draw(batches(max_calls=8, unique_ids=True))
    order = draw(st.permutations(range(len(batch.calls))))
    pauses = draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    return batch, order, pauses


@given(turn=turns())
@settings(max_examples=100)
def test_one_turn(world: World, turn: tuple[PlannedBatch, list[int], list[bool]]) -> None:
    batch, order, pauses = turn

    async def run() -> None:
        sent = SentTurn(batch, world.stubs[0].StreamBatch(timeout=WAIT_S))
        await sent.play(order, pauses)
        sent.check_events()
        check_batch(batch, sent.results(), world.recorder, streamed=True)
        check_tool_limits(world.recorder)
        sent.check_early_starts(world.recorder)

    world.run(run())


@given(several=st.lists(turns(), min_size=2, max_size=4))
@settings(max_examples=40)
def test_turns_and_batches_at_once(
    world: World, several: list[tuple[PlannedBatch, list[int], list[bool]]]
) -> None:
    """The first is sent as ExecuteBatch; the calls of all contend for the same tools."""

    async def run() -> None:
        (batch, _, _), *streamed = several
        execute = world.stubs[0].ExecuteBatch(batch.request, timeout=WAIT_S)
        sent = []
        async with asyncio.TaskGroup() as group:
            for number, (other, order, pauses) in enumerate(streamed):
                stub = world.stubs[number % len(world.stubs)]
                sent.append(SentTurn(other, stub.StreamBatch(timeout=WAIT_S)))
                group.create_task(sent[-1].play(order, pauses))
        check_batch(batch, (await execute).results, world.recorder)
        for turn in sent:
            turn.check_events()
            check_batch(turn.batch, turn.results(), world.recorder, streamed=True)
            turn.check_early_starts(world.recorder)
        check_tool_limits(world.recorder)

    world.run(run())


@given(turn=turns())
@settings(max_examples=50)
def test_an_abandoned_turn(world: World, turn: tuple[PlannedBatch, list[int], list[bool]]) -> None:
    batch, order, pauses = turn

    async def run() -> None:
        sent = SentTurn(batch, world.stubs[0].StreamBatch(timeout=WAIT_S))
        await sent.play(order, pauses, seal=False)
        sent.check_events()
        sent.check_early_starts(world.recorder)
        results = sent.results()
        expected = Expectation(batch)
        reasons = [reason_of(result) for result in results]
        for index, result in enumerate(results):
            check_result(batch, index, result, world.recorder)
            allowed = expected.allowed(index, streamed=True)
            assert reasons[index] in allowed | {"CANCELLED", "STOPPED"}
            assert (reasons[index] in STATES) == (result.execution_state != NOT_STARTED)
        check_order(batch, expected, reasons, world.recorder)
        check_tool_limits(world.recorder)

    world.run(run())


@given(count=st.integers(0, 40), backward=st.booleans())
@settings(max_examples=15)
def test_quick_calls_are_answered_while_the_turn_goes_on(
    world: World, count: int, backward: bool
) -> None:
    batch = PlannedBatch([PlannedCall("", "json")] * count)
    order = list(range(count))[:: -1 if backward else 1]

    async def run() -> None:
        sent = SentTurn(batch, world.stubs[1].StreamBatch(timeout=WAIT_S))
        await sent.play(order, [False] * count)
        sent.check_events()
        check_batch(batch, sent.results(), world.recorder, streamed=True)

    world.run(run())
