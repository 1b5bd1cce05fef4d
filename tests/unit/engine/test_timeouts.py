"""Deadlines of attempts, calls and batches, on a clock that moves when told."""

import asyncio

from tests.support.clock import settle
from tests.support.engines import (
    Gate,
    bench,
    bound,
    calls_of,
    echo,
    failure_of,
    hang,
    reasons,
    text_of,
)

from sidecall_server.core.call import BlockCause, Call, ToolCall
from sidecall_server.core.outcome import ExecutionState, Reason
from sidecall_server.core.tool import Effects
from sidecall_server.engine.engine import Engine


class Stubborn:
    """A tool that goes on after it was cancelled, until `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.cancelled = 0
        self.ended = 0

    async def __call__(self, call: Call) -> str:
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
        self.ended += 1
        return "too late"


def active(engine: Engine) -> dict[str, int]:
    limiters = engine.statistics().limiters
    return {name: limiter.active for name, limiter in limiters.items() if limiter.active}


async def test_an_attempt_that_takes_too_long_may_have_taken_effect() -> None:
    async with bench(bound("hang", hang, timeout_s=5.0), bound("echo", echo)) as b:
        turn = await b.start([ToolCall("a", "hang"), ToolCall("b", "echo")])
        await b.clock.advance(4.999)
        assert not turn.done
        await b.clock.advance(0.001)

        hung, other = turn.calls()
        failure = failure_of(hung)
        assert failure.reason is Reason.TOOL_TIMEOUT
        assert failure.state is ExecutionState.UNKNOWN
        assert "5 s" in failure.message
        assert hung.finished_ns - hung.started_ns == 5_000_000_000
        assert text_of(other) == "done"
        b.assert_idle()


async def test_the_default_timeout_holds_where_a_tool_has_none() -> None:
    async with bench(bound("hang", hang)) as b:
        turn = await b.start([ToolCall("a", "hang")])
        await b.clock.advance(b.engine.limits.timeout_s)

        assert reasons(turn.calls()) == ["TOOL_TIMEOUT"]


async def test_an_abandoned_attempt_keeps_its_tools_permit_until_it_ends() -> None:
    stubborn = Stubborn()
    async with bench(
        bound("stubborn", stubborn, timeout_s=1.0, max_concurrency=1, groups=("threads",))
    ) as b:
        turn = await b.start([ToolCall("a", "stubborn")])
        assert active(b.engine) == {"stubborn": 1, "threads": 1, "sidecar": 1}
        await b.clock.advance(1.0)

        assert reasons(turn.calls()) == ["TOOL_TIMEOUT"]
        assert active(b.engine) == {"stubborn": 1, "threads": 1}
        assert b.engine.statistics().running == 1

        following = await b.start([ToolCall("b", "stubborn")])
        assert stubborn.cancelled == 1
        assert b.engine.statistics().queued == 1

        stubborn.release.set()
        await settle()
        assert reasons(following.calls()) == ["OK"]
        assert stubborn.ended == 2
        b.assert_idle()


async def test_an_abandoned_attempt_gives_its_batch_permit_to_the_next_call() -> None:
    stubborn = Stubborn()
    async with bench(bound("stubborn", stubborn, timeout_s=1.0), bound("echo", echo)) as b:
        turn = await b.start([ToolCall("a", "stubborn"), ToolCall("b", "echo")], max_concurrency=1)
        assert active(b.engine) == {"stubborn": 1, "sidecar": 1}
        await b.clock.advance(1.0)

        assert reasons(turn.calls()) == ["TOOL_TIMEOUT", "OK"]
        stubborn.release.set()
        await settle()
        b.assert_idle()


async def test_an_abandoned_attempt_gives_its_global_permit_to_another_batch() -> None:
    stubborn = Stubborn()
    async with bench(
        bound("stubborn", stubborn, timeout_s=1.0), bound("echo", echo), max_concurrency=1
    ) as b:
        first = await b.start([ToolCall("a", "stubborn")])
        second = await b.start([ToolCall("b", "echo")])
        assert not second.done
        await b.clock.advance(1.0)

        assert reasons(first.calls()) == ["TOOL_TIMEOUT"]
        assert reasons(second.calls()) == ["OK"]
        stubborn.release.set()
        await settle()
        b.assert_idle()


async def test_a_late_return_of_an_abandoned_attempt_changes_nothing() -> None:
    stubborn = Stubborn()
    async with bench(bound("stubborn", stubborn, timeout_s=1.0)) as b:
        turn = await b.start([ToolCall("a", "stubborn")])
        await b.clock.advance(1.0)
        (call,) = turn.calls()
        outcome, finished_ns = call.outcome, call.finished_ns
        await b.clock.advance(5.0)
        stubborn.release.set()
        await settle()

        assert call.outcome is outcome
        assert call.finished_ns == finished_ns


async def test_a_call_that_waits_too_long_is_not_started() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1, queue_timeout_s=2.0)) as b:
        turn = await b.start(calls_of("gate", 3))
        await b.clock.advance(1.0)
        gate.open(0)
        await settle()
        assert gate.started == [0, 1]
        await b.clock.advance(1.0)
        gate.open(1)
        await settle()

        calls = turn.calls()
        assert reasons(calls) == ["OK", "OK", "QUEUE_TIMEOUT"]
        assert failure_of(calls[2]).state is ExecutionState.NOT_STARTED
        assert calls[2].attempt == 0
        assert gate.started == [0, 1]
        b.assert_idle()


async def test_the_queue_clock_runs_from_ready_and_not_from_receipt() -> None:
    first, busy = Gate(), Gate()
    async with bench(
        bound("first", first), bound("busy", busy, max_concurrency=1, queue_timeout_s=2.0)
    ) as b:
        turn = await b.start([ToolCall("a", "first"), ToolCall("b", "busy", depends_on=("a",))])
        # It makes the engine look at its deadlines while the other call waits.
        await b.start([ToolCall("", "first", timeout_s=31.0), ToolCall("", "busy")])
        await b.clock.advance(30.0)
        first.open(0)
        await b.clock.advance(1.5)
        assert b.engine.statistics().queued == 1
        busy.open(1)
        await settle()

        assert reasons(turn.calls()) == ["OK", "OK"]


async def test_the_time_of_a_call_counts_from_receipt_before_it_starts() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1)) as b:
        turn = await b.start([ToolCall("a", "gate"), ToolCall("b", "gate", timeout_s=3.0)])
        await b.clock.advance(3.0)
        assert not turn.done
        gate.open(0)
        await settle()

        calls = turn.calls()
        assert reasons(calls) == ["OK", "CALL_DEADLINE"]
        assert failure_of(calls[1]).state is ExecutionState.NOT_STARTED
        assert calls[1].finished_ns - calls[1].received_ns == 3_000_000_000
        assert gate.started == [0]


async def test_the_time_of_a_call_counts_from_receipt_after_it_starts() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1, timeout_s=10.0)) as b:
        turn = await b.start([ToolCall("a", "gate"), ToolCall("b", "gate", timeout_s=3.0)])
        await b.clock.advance(2.0)
        gate.open(0)
        await settle()
        assert gate.started == [0, 1]
        await b.clock.advance(1.0)

        calls = turn.calls()
        assert reasons(calls) == ["OK", "CALL_DEADLINE"]
        assert failure_of(calls[1]).state is ExecutionState.UNKNOWN
        assert gate.cancelled == [1]
        b.assert_idle()


async def test_a_call_that_waits_for_another_one_has_its_own_deadline() -> None:
    gate = Gate()
    async with bench(bound("gate", gate), bound("echo", echo)) as b:
        turn = await b.start(
            [
                ToolCall("a", "gate"),
                ToolCall("b", "echo", depends_on=("a",), timeout_s=1.0),
                ToolCall("c", "echo", depends_on=("b",)),
            ]
        )
        await b.clock.advance(1.0)
        gate.open(0)
        await settle()

        assert reasons(turn.calls()) == ["OK", "CALL_DEADLINE", "DEPENDENCY_FAILED"]


async def test_the_batch_deadline_keeps_what_is_finished() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=2), bound("echo", echo)) as b:
        turn = await b.start(
            [
                ToolCall("a", "echo", '{"text": "kept"}'),
                *calls_of("gate", 3),
                ToolCall("z", "echo", depends_on=("gate-0",)),
            ],
            timeout_s=7.0,
        )
        await b.clock.advance(6.999)
        assert not turn.done
        await b.clock.advance(0.001)

        calls = turn.calls()
        assert reasons(calls) == ["OK"] + ["BATCH_DEADLINE"] * 4
        assert text_of(calls[0]) == "kept"
        states = [failure_of(call).state for call in calls[1:]]
        unknown, not_started = ExecutionState.UNKNOWN, ExecutionState.NOT_STARTED
        assert states == [unknown, unknown, not_started, not_started]
        assert sorted(gate.cancelled) == [1, 2]
        b.assert_idle()


async def test_a_batch_that_arrives_when_its_time_is_over_starts_nothing() -> None:
    gate = Gate()
    async with bench(bound("gate", gate)) as b:
        turn = await b.start(calls_of("gate", 2), timeout_s=-1.0)
        await b.clock.advance(0.0)

        assert set(reasons(turn.calls())) == {"BATCH_DEADLINE"}


async def test_whichever_deadline_comes_first_is_named() -> None:
    async def one(tool_s: float, call_s: float | None, batch_s: float | None) -> str:
        async with bench(bound("hang", hang, timeout_s=tool_s)) as b:
            turn = await b.start([ToolCall("a", "hang", timeout_s=call_s)], timeout_s=batch_s)
            await b.clock.advance(10.0)
            return reasons(turn.calls())[0]

    assert await one(1.0, 2.0, 3.0) == "TOOL_TIMEOUT"
    assert await one(2.0, 1.0, 3.0) == "CALL_DEADLINE"
    assert await one(3.0, 2.0, 1.0) == "BATCH_DEADLINE"
    assert await one(2.0, None, 1.0) == "BATCH_DEADLINE"
    assert await one(2.0, 1.0, None) == "CALL_DEADLINE"


async def test_every_attempt_has_the_whole_timeout_of_its_tool() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1, timeout_s=2.0)) as b:
        turn = await b.start(calls_of("gate", 3))
        for index in range(3):
            await b.clock.advance(1.5)
            gate.open(index)
            await settle()

        assert reasons(turn.calls()) == ["OK"] * 3


async def test_many_deadlines_share_one_timer() -> None:
    async with bench(bound("hang", hang, timeout_s=9.0)) as b:
        turn = await b.start(
            [ToolCall("", "hang", timeout_s=0.5 + index / 64) for index in range(50)],
            timeout_s=30.0,
        )
        assert b.clock.armed == 1
        await b.clock.advance(2.0)

        assert reasons(turn.calls()) == ["CALL_DEADLINE"] * 50
        assert [c.finished_ns - c.received_ns for c in turn.calls()] == [
            500_000_000 + index * 15_625_000 for index in range(50)
        ]


async def test_a_tools_own_timeout_is_the_tools_affair() -> None:
    async def impatient(call: Call) -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "gave up"
        return "waited"

    async with bench(bound("impatient", impatient, max_concurrency=1)) as b:
        turn = await b.start(calls_of("impatient", 3))
        await asyncio.wait([turn.task])

        assert [text_of(call) for call in turn.calls()] == ["gave up"] * 3
        b.assert_idle()


async def test_time_blocked_is_booked_on_what_a_call_waited_for() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1), bound("echo", echo)) as b:
        turn = await b.start([*calls_of("gate", 2), ToolCall("z", "echo", depends_on=("@2",))])
        await b.clock.advance(2.0)
        gate.open(0)
        await b.clock.advance(3.0)
        gate.open(1)
        await settle()

        blocked = [
            {cause.name: time_ns / 1e9 for cause, time_ns in (call.blocked_ns or {}).items()}
            for call in turn.calls()
        ]
        assert blocked == [{}, {"TOOL_LIMIT": 2.0}, {"REFERENCE": 5.0}]


async def test_time_blocked_follows_the_cause_as_it_changes() -> None:
    gate, first, second = Gate(), Gate(), Gate()
    async with bench(
        bound("gate", gate), bound("first", first), bound("second", second), max_concurrency=2
    ) as b:
        await b.start(calls_of("gate", 1))
        await b.start(calls_of("first", 1))
        turn = await b.start(calls_of("gate", 1))
        await b.start(calls_of("second", 1))
        await b.clock.advance(1.0)
        gate.open(0)  # the permit of the tool is free, that of the sidecar goes to another call
        await b.clock.advance(4.0)
        assert not turn.done
        second.open(0)
        await settle()

        assert turn.calls()[0].blocked_ns == {
            BlockCause.TOOL_LIMIT: 1_000_000_000,
            BlockCause.GLOBAL_LIMIT: 4_000_000_000,
        }


async def test_the_model_is_told_what_may_have_happened() -> None:
    hangs = Gate()
    async with bench(
        *(
            bound(effects.name, hangs, timeout_s=1.0, effects=effects)
            for effects in (Effects.READ_ONLY, Effects.IDEMPOTENT, Effects.NON_IDEMPOTENT)
        )
    ) as b:
        turn = await b.start([ToolCall("", effects.name) for effects in Effects])
        await b.clock.advance(1.0)
        read_only, idempotent, effectful = (failure_of(call).message for call in turn.calls())

        assert "effect" not in read_only
        assert "calling it again is safe" in idempotent
        assert "find out before you call it again" in effectful
