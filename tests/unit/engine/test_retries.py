"""Retries: when another attempt is made, what it is given, and what its call gets in the end."""

import json
from typing import Any

import pytest
from tests.support.clock import FakeClock, settle
from tests.support.engines import bench, bound, calls_of, echo, failure_of, reasons, text_of
from tests.support.policies import (
    READ_ONLY,
    SECOND_NS,
    Script,
    Stage,
    Watch,
    broken,
    no_worker,
    per_second,
    retry,
    unavailable,
)

from sidecall_server.core.call import BlockCause, Call, Mode, OnFailure, ToolCall
from sidecall_server.core.outcome import ExecutionState, Outcome, Success
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import Effects, Group, Sharing


def half() -> float:
    """Each wait is half of its bound: 0.5, 1, 2, ... seconds."""
    return 0.5


def flaky(script: Script, **spec: Any) -> BoundTool:
    """A read-only tool that is tried three times."""
    return bound("tool", script, **{"retry": retry(), **READ_ONLY, **spec})


def failed(call: Call) -> list[str]:
    """Reasons of the attempts that were followed by another one."""
    return [attempt.failure.reason.name for attempt in call.failed_attempts]


async def test_attempts_follow_each_other_after_their_waits() -> None:
    script = Script(clock := FakeClock(), unavailable(), unavailable(), "at last")
    watch = Watch()
    async with bench(flaky(script), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1), watch)
        await clock.advance(2)
        (call,) = turn.calls()

        assert text_of(call) == "at last"
        assert script.at_s == [0, 0.5, 1.5]
        assert script.attempts == [1, 2, 3]
        assert call.attempt == 3
        assert failed(call) == ["TOOL_FAILED", "TOOL_FAILED"]
        begin_ns = call.received_ns
        assert [
            (a.started_ns - begin_ns, a.finished_ns - begin_ns) for a in call.failed_attempts
        ] == [(0, 0), (SECOND_NS // 2, SECOND_NS // 2)]
        assert call.blocked_ns == {BlockCause.BACKOFF: 3 * SECOND_NS // 2}
        assert watch.started == [(0, 1), (0, 2), (0, 3)]
        assert watch.queued == [(0, BlockCause.BACKOFF), (0, BlockCause.BACKOFF)]
        b.assert_idle()


async def test_the_last_failure_is_the_outcome() -> None:
    script = Script(clock := FakeClock(), unavailable(), unavailable(), broken())
    async with bench(flaky(script), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(2)
        (call,) = turn.calls()

        assert failure_of(call).message == broken().message
        assert failed(call) == ["TOOL_FAILED", "TOOL_FAILED"]
        assert call.started_ns == call.received_ns + 3 * SECOND_NS // 2
        b.assert_idle()


async def test_what_is_not_to_be_tried_again_is_final() -> None:
    script = Script(clock := FakeClock(), broken())
    async with bench(flaky(script), clock=clock) as b:
        (call,) = await b.run(calls_of("tool", 1))
        assert reasons([call]) == ["TOOL_FAILED"]
        assert (call.attempt, call.failed_attempts) == (1, ())


async def test_the_tool_says_when_to_come_again() -> None:
    script = Script(clock := FakeClock(), unavailable(retry_after_s=7))
    async with bench(flaky(script), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(8)
        assert script.at_s == [0, 7]
        assert reasons(turn.calls()) == ["OK"]


@pytest.mark.parametrize("options", [{"timeout_s": 7.0}, {}])
async def test_no_attempt_is_made_beyond_the_deadline(options: dict[str, Any]) -> None:
    script = Script(clock := FakeClock(), unavailable(retry_after_s=7))
    async with bench(flaky(script), clock=clock) as b:
        request = ToolCall("", "tool", timeout_s=None if options else 7.0)
        turn = await b.start([request], **options)
        assert reasons(turn.calls()) == ["TOOL_FAILED"]  # at once
        assert failure_of(turn.calls()[0]).retry_after_s == 7
        b.assert_idle()


async def test_calls_with_times_of_their_own_are_tried_again() -> None:
    script = Script(clock := FakeClock(), unavailable(), unavailable(), unavailable())
    async with bench(flaky(script), clock=clock, random=half) as b:
        turn = await b.start(
            [ToolCall("", "tool", timeout_s=3.0), ToolCall("", "tool", timeout_s=3.0)]
        )
        await clock.advance(3)
        assert reasons(turn.calls()) == ["OK", "OK"]
        b.assert_idle()


async def test_a_calls_own_deadline_ends_its_second_attempt() -> None:
    script = Script(clock := FakeClock(), unavailable(), None)
    async with bench(flaky(script), clock=clock, random=half) as b:
        turn = await b.start([ToolCall("", "tool", timeout_s=3.0)])
        await clock.advance(2.9)
        assert not turn.done
        await clock.advance(0.1)
        (call,) = turn.calls()
        assert reasons([call]) == ["CALL_DEADLINE"]
        assert (call.attempt, failed(call)) == (2, ["TOOL_FAILED"])
        b.assert_idle()


async def test_the_budget_bounds_what_retries_cost() -> None:
    script = Script(clock := FakeClock(), *[unavailable()] * 100)
    async with bench(flaky(script, retry=retry(2, budget=0.0)), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 30))
        await clock.advance(1)
        # Ten are given in advance.
        assert sum(call.attempt - 1 for call in turn.calls()) == 10
        b.assert_idle()


async def test_no_permit_is_held_during_the_wait() -> None:
    script = Script(clock := FakeClock(), unavailable())
    async with bench(flaky(script, max_concurrency=1), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 2), max_concurrency=1)
        assert script.attempts == [1, 1]  # the other one ran meanwhile
        assert b.engine.statistics().running == 0
        await clock.advance(0.5)
        assert reasons(turn.calls()) == ["OK", "OK"]
        b.assert_idle()


async def test_another_attempt_waits_for_its_turn_and_its_rate() -> None:
    script = Script(clock := FakeClock(), unavailable())
    tool = flaky(script, rate=per_second(), max_concurrency=1)
    async with bench(tool, clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(2)
        assert script.at_s == [0, 1]
        half_ns = SECOND_NS // 2
        assert turn.calls()[0].blocked_ns == {BlockCause.BACKOFF: half_ns, BlockCause.RATE: half_ns}
        b.assert_idle()


async def test_the_queue_clock_runs_for_each_attempt() -> None:
    script = Script(clock := FakeClock(), unavailable(retry_after_s=4), None, "again")
    async with bench(
        flaky(script, max_concurrency=1, queue_timeout_s=5.0), clock=clock, random=half
    ) as b:
        turn = await b.start(calls_of("tool", 1))
        await b.start(calls_of("tool", 1), caller="holds the permit")
        await clock.advance(8.9)  # 4.9 of them in the queue, for the second time
        assert not turn.done
        script.release()
        await settle()
        assert reasons(turn.calls()) == ["OK"]
        b.assert_idle()


async def test_a_second_attempt_that_finds_no_place_leaves_the_first_ones_failure() -> None:
    script = Script(clock := FakeClock(), unavailable(), None)
    async with bench(flaky(script, max_concurrency=1, max_queue=0), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        await b.start(calls_of("tool", 1))
        await clock.advance(1)
        (call,) = turn.calls()
        assert failure_of(call).message == unavailable().message
        assert (call.attempt, call.failed_attempts) == (1, ())
        assert call.started_ns == call.received_ns
        assert call.blocked_ns == {BlockCause.BACKOFF: SECOND_NS // 2}


DEFAULTS = {
    "type": "object",
    "properties": {"list": {"type": "array"}, "options": {"type": "object", "default": {"a": [1]}}},
}


async def test_each_attempt_is_given_what_the_model_wrote() -> None:
    async def listing(_: Call) -> Outcome:
        return Success('{"items": [1, {"b": 2}]}', is_json=True)

    script = Script(clock := FakeClock(), unavailable(), unavailable(), "done")
    reader = Script(clock, unavailable(), "done")
    async with bench(
        flaky(script, input_schema=DEFAULTS),
        bound("read", reader, retry=retry(), effects=Effects.IDEMPOTENT),
        bound("listing", listing),
        clock=clock,
        random=half,
    ) as b:
        turn = await b.start(
            [
                ToolCall("", "listing"),
                ToolCall("", "tool", '{"list": [[]], "text": "x"}'),
                ToolCall("", "read", '{"v": "$ref:@1#/items", "w": {"x": ["$ref:@1"]}}'),
            ]
        )
        await clock.advance(3)
        assert reasons(turn.calls()) == ["OK"] * 3
        assert script.given == [{"list": [[]], "text": "x", "options": {"a": [1]}}] * 3
        items = [1, {"b": 2}]
        assert reader.given == [{"v": items, "w": {"x": [{"items": items}]}}] * 2


@pytest.mark.parametrize("effects", [Effects.READ_ONLY, Effects.IDEMPOTENT])
async def test_a_timeout_is_tried_again_where_that_is_safe(effects: Effects) -> None:
    script = Script(clock := FakeClock(), None, "in time")
    tool = flaky(script, effects=effects, timeout_s=1.0)
    async with bench(tool, clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(2)
        (call,) = turn.calls()
        assert text_of(call) == "in time"
        assert script.at_s == [0, 1.5]
        assert failed(call) == ["TOOL_TIMEOUT"]
        b.assert_idle()


@pytest.mark.parametrize("end", [None, unavailable()])
async def test_what_may_have_had_an_effect_is_not_tried_again(end: Outcome | None) -> None:
    script = Script(clock := FakeClock(), end)
    tool = flaky(script, effects=Effects.NON_IDEMPOTENT, timeout_s=1.0)
    async with bench(tool, clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(60)
        assert script.attempts == [1]
        assert reasons(turn.calls()) == ["TOOL_TIMEOUT" if end is None else "TOOL_FAILED"]


async def test_what_never_ran_is_tried_again_whatever_it_does() -> None:
    script = Script(clock := FakeClock(), no_worker(), "done")
    async with bench(flaky(script, effects=Effects.NON_IDEMPOTENT), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(1)
        assert reasons(turn.calls()) == ["OK"]
        assert failed(turn.calls()[0]) == ["TOOL_UNAVAILABLE"]


async def test_a_late_attempt_keeps_its_permit_and_its_result_is_ignored() -> None:
    script = Script(clock := FakeClock(), None, "second")
    script.stubborn = True
    async with bench(
        flaky(script, timeout_s=1.0, max_concurrency=1), clock=clock, random=half
    ) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(5)
        assert script.attempts == [1]  # the second attempt waits for the permit of the first
        assert b.engine.statistics().limiters["tool"].active == 1
        assert b.engine.statistics().limiters["sidecar"].active == 0
        assert not turn.done
        script.release()
        await settle()
        assert text_of(turn.calls()[0]) == "second"
        assert turn.calls()[0].attempt == 2
        b.assert_idle()


async def test_a_late_result_is_ignored_while_another_attempt_runs() -> None:
    script = Script(clock := FakeClock(), None, None)
    script.stubborn = True
    async with bench(flaky(script, timeout_s=1.0, retry=retry(2)), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(1.6)
        assert script.attempts == [1, 2]
        assert b.engine.statistics().running == 2
        await clock.advance(1)
        (call,) = turn.calls()
        assert reasons([call]) == ["TOOL_TIMEOUT"]
        script.release()
        await settle()
        assert reasons([call]) == ["TOOL_TIMEOUT"]
        assert (call.attempt, failed(call)) == (2, ["TOOL_TIMEOUT"])
        b.assert_idle()


STATES = [
    (unavailable(), ExecutionState.COMPLETED),
    (None, ExecutionState.UNKNOWN),
    (no_worker(), ExecutionState.NOT_STARTED),
]


@pytest.mark.parametrize(("end", "state"), STATES)
@pytest.mark.parametrize("reason", ["CANCELLED", "DRAINING"])
async def test_the_state_is_honest_where_a_call_ends_before_another_attempt(
    reason: str, end: Outcome | None, state: ExecutionState
) -> None:
    script = Script(clock := FakeClock(), end)
    async with bench(flaky(script, timeout_s=1.0), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        (batch,) = b.engine._open
        await clock.advance(1 if end is None else 0)
        assert batch.aside.waits[0].cause is BlockCause.BACKOFF
        if reason == "CANCELLED":
            turn.task.cancel()
        else:
            b.engine.cancel_open()
        await clock.advance(60)

        call = batch.calls[0]
        assert reasons([call]) == [reason]
        assert failure_of(call).state is state
        assert call.attempt == 1
        assert script.attempts == [1]
        b.assert_idle()


@pytest.mark.parametrize(("end", "state"), STATES)
@pytest.mark.parametrize("reason", ["BATCH_DEADLINE", "CALL_DEADLINE", "QUEUE_TIMEOUT"])
async def test_the_state_is_honest_where_the_time_for_another_attempt_is_over(
    reason: str, end: Outcome | None, state: ExecutionState
) -> None:
    script = Script(clock := FakeClock(), end)
    blocker = Script(clock, None)
    tool = flaky(script, timeout_s=1.0, queue_timeout_s=3.0, max_concurrency=1, groups=("few",))
    groups = {"few": Group(max_concurrency=1)}
    async with bench(
        tool, bound("blocks", blocker, groups=("few",)), clock=clock, random=half, groups=groups
    ) as b:
        own_s = 3.0 if reason == "CALL_DEADLINE" else None
        options: dict[str, Any] = {"timeout_s": 3.0} if reason == "BATCH_DEADLINE" else {}
        turn = await b.start([ToolCall("", "tool", timeout_s=own_s)], **options)
        await b.start(calls_of("blocks", 1))
        await clock.advance(5)

        (call,) = turn.calls()
        assert reasons([call]) == [reason]
        assert failure_of(call).state is state
        assert call.attempt == 1
        assert script.attempts == [1]
        blocker.release()
        await settle()
        b.assert_idle()


async def test_a_stop_during_the_wait_leaves_the_failure() -> None:
    script = Script(clock := FakeClock(), unavailable())
    async with bench(
        flaky(script), bound("fails", Script(clock, broken())), clock=clock, random=half
    ) as b:
        fails = ToolCall("", "fails", depends_on=("@3",))
        turn = await b.start(
            [ToolCall("", "tool"), fails, ToolCall("", "tool")], on_failure=OnFailure.STOP
        )
        first, second, third = turn.calls()
        assert reasons([first, second, third]) == ["TOOL_FAILED", "TOOL_FAILED", "OK"]
        assert failure_of(first).message == unavailable().message
        assert (first.attempt, first.failed_attempts) == (1, ())
        await clock.advance(5)
        assert script.attempts == [1, 1]
        b.assert_idle()


async def test_after_a_stop_nothing_is_tried_again() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, retry=retry(), **READ_ONLY), random=half) as b:
        turn = await b.start(
            [ToolCall("1", "tool"), ToolCall("2", "tool")], on_failure=OnFailure.STOP
        )
        await stage.end("1", outcome=broken())
        await stage.end("2", outcome=unavailable())
        assert reasons(turn.calls()) == ["TOOL_FAILED"] * 2
        assert turn.calls()[1].attempt == 1
        b.assert_idle()


async def test_a_failure_that_is_tried_again_stops_nothing() -> None:
    script = Script(clock := FakeClock(), unavailable())
    async with bench(flaky(script), bound("echo", echo), clock=clock, random=half) as b:
        turn = await b.start(
            [ToolCall("", "tool"), ToolCall("", "echo"), ToolCall("", "echo", depends_on=("@1",))],
            on_failure=OnFailure.STOP,
            mode=Mode.SEQUENTIAL,
        )
        assert not turn.done
        await clock.advance(0.5)
        assert reasons(turn.calls()) == ["OK"] * 3
        assert (turn.calls()[2].blocked_ns or {})[BlockCause.REFERENCE] == SECOND_NS // 2


async def test_identical_calls_get_the_result_of_the_last_attempt() -> None:
    script = Script(clock := FakeClock(), unavailable(), unavailable(), "at last")
    sharing = Sharing(coalesce=True, cache_ttl_s=None, all_callers=False, context_keys=())
    async with bench(flaky(script, sharing=sharing), clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 2))
        await clock.advance(0.2)
        late = await b.start(calls_of("tool", 1))  # while the first attempt is over
        await clock.advance(2)
        assert [text_of(call) for call in [*turn.calls(), *late.calls()]] == ["at last"] * 3
        assert script.attempts == [1, 2, 3]
        assert [call.coalesced for call in [*turn.calls(), *late.calls()]] == [False, True, True]
        b.assert_idle()


async def test_whoever_follows_a_call_that_is_cancelled_between_attempts_takes_over() -> None:
    script = Script(clock := FakeClock(), unavailable(), "second")
    sharing = Sharing(coalesce=True, cache_ttl_s=None, all_callers=False, context_keys=())
    async with bench(flaky(script, sharing=sharing), clock=clock, random=half) as b:
        first = await b.start(calls_of("tool", 1))
        follows = await b.start(calls_of("tool", 1))
        first.task.cancel()
        await settle()
        assert text_of(follows.calls()[0]) == "second"
        assert script.attempts == [1, 1]
        b.assert_idle()


async def test_a_retry_that_cannot_be_prepared_ends_its_call() -> None:
    calls = 0

    def prepare(values: dict[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise RuntimeError("secret detail")
        return values

    script = Script(clock := FakeClock(), unavailable())
    tool = flaky(script)
    prepared = BoundTool(tool.spec, tool.handler, prepare)
    async with bench(prepared, clock=clock, random=half) as b:
        turn = await b.start(calls_of("tool", 1))
        await clock.advance(1)
        assert reasons(turn.calls()) == ["INTERNAL"]
        assert "secret" not in json.dumps(failure_of(turn.calls()[0]).message)
        b.assert_idle()
