"""Breakers: who is refused while a tool fails, who may try it, and what counts."""

import json
from typing import Any

import pytest
from tests.support.clock import FakeClock, settle
from tests.support.engines import (
    Bench,
    Turn,
    bench,
    bound,
    calls_of,
    echo,
    failure_of,
    reasons,
)
from tests.support.policies import (
    READ_ONLY,
    SECOND_NS,
    Script,
    Stage,
    breaker,
    broken,
    every,
    retry,
    unavailable,
)

from sidecall_server.core.call import BlockCause, OnFailure, ToolCall
from sidecall_server.core.outcome import Code, ExecutionState, Failure, Outcome, Reason
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import Group, Lane, Sharing
from sidecall_server.policy.breaker import BreakerState

OPEN, HALF_OPEN, CLOSED = BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED


def guarded(function: Any, **spec: Any) -> BoundTool:
    """A tool whose breaker opens for ten seconds after two failures out of two."""
    return bound("tool", function, **{"breaker": breaker(), **spec})


def state_of(b: Bench) -> BreakerState:
    return b.engine.statistics().breakers["tool"].state


async def fail_twice(b: Bench) -> None:
    assert reasons(await b.run(calls_of("tool", 2))) == ["TOOL_FAILED"] * 2
    assert state_of(b) is OPEN


async def test_a_tool_that_fails_is_left_alone_for_a_while() -> None:
    script = Script(clock := FakeClock(), broken(), broken())
    async with bench(guarded(script), bound("echo", echo), clock=clock) as b:
        await fail_twice(b)
        await clock.advance(4)
        refused, other = await b.run([ToolCall("", "tool"), ToolCall("", "echo")])
        assert reasons([refused, other]) == ["CIRCUIT_OPEN", "OK"]
        assert failure_of(refused).retry_after_s == 6
        assert failure_of(refused).state is ExecutionState.NOT_STARTED
        assert refused.attempt == 0
        await clock.advance(6)
        assert reasons(await b.run(calls_of("tool", 1))) == ["OK"]
        assert state_of(b) is CLOSED
        assert script.attempts == [1, 1, 1]
        b.assert_idle()


async def test_calls_that_wait_are_refused_when_it_opens() -> None:
    stage = Stage()
    async with bench(guarded(stage, max_concurrency=2)) as b:
        first = await b.start([ToolCall(str(n), "tool") for n in range(4)], caller="one")
        second = await b.start([ToolCall("4", "tool"), ToolCall("5", "tool")], caller="two")
        await b.clock.advance(1)
        await stage.end("0", outcome=broken())
        assert stage.started == ["0", "1", "2"]
        await stage.end("1", outcome=broken())

        assert reasons(second.calls()) == ["CIRCUIT_OPEN"] * 2
        assert failure_of(second.calls()[0]).retry_after_s == 10
        assert second.calls()[0].blocked_ns == {BlockCause.TOOL_LIMIT: SECOND_NS}
        assert not first.done  # what runs goes on
        await stage.end("2")
        assert reasons(first.calls()) == ["TOOL_FAILED", "TOOL_FAILED", "OK", "CIRCUIT_OPEN"]
        assert state_of(b) is OPEN
        b.assert_idle()


async def test_calls_that_wait_for_their_lane_or_rate_are_refused_too() -> None:
    stage = Stage()
    tool = guarded(
        stage, lane=Lane("{key}"), rate=every(20, burst=3), breaker=breaker(min_attempts=2)
    )
    async with bench(tool) as b:
        turns: list[Turn] = []
        for call_id, key in (
            ("0", "a"),
            ("1", "b"),
            ("2", "a"),
            ("3", "c"),
            ("4", "d"),
            ("5", "b"),
        ):
            call = ToolCall(call_id, "tool", json.dumps({"key": key}))
            turns.append(await b.start([call]))
        assert stage.running == ["0", "1", "3"]
        await b.clock.advance(1)
        await stage.end("0", outcome=broken())
        assert b.engine.statistics().lanes == 4  # "2" and "4" wait for the rate, "5" for "1"
        await stage.end("1", outcome=broken())
        await stage.end("3")

        assert [reasons(turn.calls())[0] for turn in turns] == [
            *["TOOL_FAILED"] * 2, "CIRCUIT_OPEN", "OK", "CIRCUIT_OPEN", "CIRCUIT_OPEN"
        ]  # fmt: skip
        assert turns[5].calls()[0].blocked_ns == {BlockCause.LANE: SECOND_NS}
        b.assert_idle()


async def test_one_call_at_a_time_tries_it() -> None:
    stage = Stage()
    async with bench(guarded(stage, breaker=breaker(probes=2))) as b:
        await stage.end("a", outcome=broken())
        await stage.end("b", outcome=broken())
        await b.run([ToolCall("a", "tool"), ToolCall("b", "tool")])
        await b.clock.advance(10)
        turn = await b.start([ToolCall(name, "tool") for name in ("1", "2", "3")])
        assert stage.running == ["1"]
        assert state_of(b) is HALF_OPEN
        assert failure_of_first_refused(b) == 1
        await stage.end("1")
        assert reasons(turn.calls()) == ["OK", "CIRCUIT_OPEN", "CIRCUIT_OPEN"]
        assert state_of(b) is HALF_OPEN  # one more must end well
        await stage.end("4")
        assert reasons(await b.run([ToolCall("4", "tool")])) == ["OK"]
        assert state_of(b) is CLOSED
        b.assert_idle()


def failure_of_first_refused(b: Bench) -> float | None:
    (batch,) = b.engine._open
    return failure_of(batch.calls[1]).retry_after_s


async def test_a_probe_that_fails_opens_it_again() -> None:
    script = Script(clock := FakeClock(), broken(), broken(), broken())
    async with bench(guarded(script), clock=clock) as b:
        await fail_twice(b)
        await clock.advance(10)
        assert reasons(await b.run(calls_of("tool", 1))) == ["TOOL_FAILED"]
        assert state_of(b) is OPEN
        await clock.advance(9)
        (refused,) = await b.run(calls_of("tool", 1))
        assert failure_of(refused).retry_after_s == 1
        await clock.advance(1)
        assert reasons(await b.run(calls_of("tool", 1))) == ["OK"]


async def probing(b: Bench, clock: FakeClock) -> Turn:
    """A turn whose only call is a probe that runs or waits."""
    await fail_twice(b)
    await clock.advance(10)
    turn = await b.start(calls_of("tool", 1))
    assert not turn.done
    assert reasons(await b.run(calls_of("tool", 1))) == ["CIRCUIT_OPEN"]
    return turn


async def test_a_probe_that_is_cancelled_gives_its_place_to_another_call() -> None:
    script = Script(clock := FakeClock(), broken(), broken(), None)
    async with bench(guarded(script), clock=clock) as b:
        turn = await probing(b, clock)
        turn.task.cancel()
        await settle()
        assert state_of(b) is HALF_OPEN
        assert reasons(await b.run(calls_of("tool", 1))) == ["OK"]
        assert state_of(b) is CLOSED
        b.assert_idle()


@pytest.mark.parametrize("gone", ["cancelled", "too late"])
async def test_a_probe_that_never_starts_gives_its_place_to_another_call(gone: str) -> None:
    script, other = Script(clock := FakeClock(), broken(), broken()), Stage()
    tool = guarded(script, groups=("few",), queue_timeout_s=3.0)
    groups = {"few": Group(max_concurrency=1)}
    async with bench(tool, bound("other", other, groups=("few",)), clock=clock, groups=groups) as b:
        await fail_twice(b)
        await b.start([ToolCall("holds", "other")])
        turn = await waiting_probe(b, clock)
        if gone == "cancelled":
            turn.task.cancel()
        await clock.advance(3)
        await other.end("holds")
        assert script.attempts == [1, 1]
        assert reasons(await b.run(calls_of("tool", 1))) == ["OK"]
        assert state_of(b) is CLOSED
        b.assert_idle()


async def waiting_probe(b: Bench, clock: FakeClock) -> Turn:
    await clock.advance(10)
    turn = await b.start(calls_of("tool", 1))
    assert reasons(await b.run(calls_of("tool", 1))) == ["CIRCUIT_OPEN"]
    return turn


async def test_a_probe_that_its_rate_refuses_gives_its_place_back() -> None:
    script = Script(clock := FakeClock(), broken(), broken())
    tool = guarded(script, rate=every(100, burst=2), queue_timeout_s=95.0)
    async with bench(tool, clock=clock) as b:
        await fail_twice(b)
        await clock.advance(10)
        turn = await b.start(calls_of("tool", 1), timeout_s=5)
        assert reasons(turn.calls()) == ["RATE_LIMITED"]
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(90)
        assert reasons(turn.calls()) == ["OK"]
        b.assert_idle()


def _failure(reason: Reason, code: Code | None = None) -> Failure:
    return Failure(reason, "It did not work.", ExecutionState.COMPLETED, code)


@pytest.mark.parametrize(
    "end",
    [
        "done",
        _failure(Reason.TOOL_FAILED, Code.NOT_FOUND),
        _failure(Reason.TOOL_FAILED, Code.INVALID_ARGUMENT),
        _failure(Reason.RESULT_TOO_LARGE),
    ],
)
async def test_a_tool_that_answers_works(end: Outcome | str) -> None:
    script = Script(clock := FakeClock(), *[end] * 10)
    async with bench(guarded(script), clock=clock) as b:
        await b.run(calls_of("tool", 10))
        assert state_of(b) is CLOSED
        statistics = b.engine.statistics().breakers["tool"]
        assert (statistics.attempts, statistics.failures) == (10, 0)


async def test_what_callers_cause_counts_nothing() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    script = Script(clock := FakeClock(), *[None] * 10)
    async with bench(guarded(script, input_schema=schema), clock=clock) as b:
        await b.run(calls_of("tool", 5, arguments='{"n": "x"}'))
        await b.run(calls_of("tool", 5, arguments="no JSON"))
        cancelled = await b.start(calls_of("tool", 2))
        cancelled.task.cancel()
        late = await b.start(calls_of("tool", 2), timeout_s=1)
        own = await b.start([ToolCall("", "tool", timeout_s=1.0)] * 2)
        await clock.advance(1)
        assert reasons(late.calls()) == ["BATCH_DEADLINE"] * 2
        assert reasons(own.calls()) == ["CALL_DEADLINE"] * 2

        statistics = b.engine.statistics().breakers["tool"]
        assert (statistics.state, statistics.attempts) == (CLOSED, 0)


async def test_timeouts_count_and_late_results_do_not() -> None:
    script = Script(clock := FakeClock(), None, None)
    script.stubborn = True
    async with bench(guarded(script, timeout_s=1.0), clock=clock) as b:
        turn = await b.start(calls_of("tool", 2))
        await clock.advance(1)
        assert reasons(turn.calls()) == ["TOOL_TIMEOUT"] * 2
        assert state_of(b) is OPEN
        script.release()
        await settle()
        assert state_of(b) is OPEN
        b.assert_idle()


async def test_each_attempt_counts_and_a_refused_one_leaves_the_failure() -> None:
    script = Script(clock := FakeClock(), unavailable(), unavailable())
    tool = guarded(script, retry=retry(5), **READ_ONLY)
    async with bench(tool, clock=clock, random=lambda: 0.5) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(5)
        (call,) = turn.calls()
        assert failure_of(call).message == unavailable().message
        assert call.attempt == 2
        assert len(call.failed_attempts) == 1
        assert script.at_s == [0, 0.5]
        b.assert_idle()


async def test_it_belongs_to_the_name_and_outlives_a_swap() -> None:
    script = Script(clock := FakeClock(), broken(), broken())
    async with bench(guarded(script), clock=clock) as b:
        await fail_twice(b)
        b.engine.swap([guarded(echo, breaker=breaker(open_s=4.0))], {})
        assert reasons(await b.run(calls_of("tool", 1))) == ["CIRCUIT_OPEN"]
        await clock.advance(4)
        assert reasons(await b.run(calls_of("tool", 1))) == ["OK"]


async def test_who_started_without_one_is_not_refused() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, max_concurrency=1)) as b:
        before = await b.start([ToolCall(n, "tool") for n in ("1", "2", "3")])
        b.engine.swap([guarded(stage, max_concurrency=1, breaker=breaker(min_attempts=1))], {})
        after = await b.start([ToolCall(n, "tool") for n in ("4", "5")], caller="another")
        await stage.end("1")
        await stage.end("2")
        assert stage.running == ["4"]
        await stage.end("4", outcome=broken())
        assert reasons(after.calls()) == ["TOOL_FAILED", "CIRCUIT_OPEN"]
        await stage.end("3")
        assert reasons(before.calls()) == ["OK"] * 3
        b.assert_idle()


async def test_thousands_that_wait_are_refused_at_once() -> None:
    stage = Stage()
    async with bench(guarded(stage, max_concurrency=2)) as b:
        turn = await b.start([ToolCall(str(n), "tool") for n in range(10_000)])
        await stage.end("0", outcome=broken())
        await stage.end("1", outcome=broken())
        await stage.end("2")
        await turn.task
        assert reasons(turn.calls()).count("CIRCUIT_OPEN") == 9_997
        b.assert_idle()


async def test_a_refused_call_stops_its_batch() -> None:
    script = Script(clock := FakeClock(), broken(), broken())
    async with bench(guarded(script), bound("echo", echo), clock=clock) as b:
        await fail_twice(b)
        calls = [
            ToolCall("", "tool"),
            ToolCall("", "echo", depends_on=("@3",)),
            ToolCall("", "echo"),
        ]
        stopped = await b.run(calls, on_failure=OnFailure.STOP)
        assert reasons(stopped) == ["CIRCUIT_OPEN", "STOPPED", "STOPPED"]


async def test_identical_calls_that_follow_one_are_refused_with_it() -> None:
    stage = Stage()
    sharing = Sharing(coalesce=True, cache_ttl_s=None, all_callers=False, context_keys=())
    guard = breaker(min_attempts=1)
    async with bench(
        guarded(stage, max_concurrency=1, sharing=sharing, breaker=guard, **READ_ONLY)
    ) as b:
        fails = await b.start([ToolCall("1", "tool", '{"n": 1}')])
        waits = await b.start([ToolCall(n, "tool", '{"n": 2}') for n in ("3", "4", "5")])
        await stage.end("1", outcome=broken())
        assert reasons(fails.calls()) == ["TOOL_FAILED"]
        assert reasons(waits.calls()) == ["CIRCUIT_OPEN"] * 3
        b.assert_idle()
