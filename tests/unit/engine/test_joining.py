"""A batch that is sent again while an earlier send of it runs, or after its client has gone."""

import asyncio
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import Turn, bench, bound, failure_of, reasons, text_of
from tests.support.works import Works, to

from sidecall_server.core.call import Call, Mode, OnFailure, ToolCall
from sidecall_server.core.outcome import (
    Code,
    ExecutionState,
    Outcome,
    Reason,
    Success,
    not_started,
    unknown_effect,
)
from sidecall_server.core.tool import Effects, Retry

RETRY = Retry(
    max_attempts=3,
    backoff_s=10.0,
    max_backoff_s=10.0,
    budget=1.0,
    codes=frozenset({Code.UNKNOWN}),
)


async def cancel(turn: Turn) -> None:
    """Has a client go away."""
    turn.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn.task
    await settle()


@pytest.mark.parametrize("sends", [2, 3])
async def test_sends_at_the_same_time_share_one_run(sends: int) -> None:
    works = Works()
    calls = [to("write", "a"), to("write", "b"), to("read", "c")]
    async with bench(*works.tools(max_concurrency=1)) as b:
        turns = [await b.start(calls, request_id="r") for _ in range(sends)]
        assert works.started == ["a", "c"]
        works.open("a", "b", "c")
        await settle()

        for number, turn in enumerate(turns):
            assert [text_of(call) for call in turn.calls()] == ["did a", "did b", "did c"]
            assert [call.replayed for call in turn.calls()] == [number > 0] * 3
            assert [call.attempt for call in turn.calls()] == [1, 1, 1]
        assert works.counts == {"a": 1, "b": 1, "c": 1}
        b.assert_idle()


async def test_started_calls_go_on_without_their_client() -> None:
    works = Works()
    calls = [to("write", "a"), to("write", "b")]
    async with bench(*works.tools(max_concurrency=1)) as b:
        await cancel(await b.start(calls, request_id="r"))
        works.open("a", "b")
        await settle()
        assert works.started == ["a"], "nothing new starts"
        assert works.cancelled == []
        b.assert_idle()

        again = await b.run(calls, request_id="r")

        assert [text_of(call) for call in again] == ["did a", "did b"]
        assert [call.replayed for call in again] == [True, False]
        assert works.counts == {"a": 1, "b": 1}


async def test_without_a_request_id_the_client_takes_its_calls_along() -> None:
    works = Works()
    async with bench(*works.tools()) as b:
        await cancel(await b.start([to("write", "a")]))

        assert works.cancelled == ["a"]
        b.assert_idle()


async def test_a_resend_joins_what_its_client_left() -> None:
    works = Works()
    async with bench(*works.tools()) as b:
        await cancel(await b.start([to("write", "a")], request_id="r"))
        second = await b.start([to("write", "a")], request_id="r")
        third = await b.start([to("write", "a")], request_id="r")
        works.open("a")
        await settle()

        for turn in (second, third):
            assert [text_of(call) for call in turn.calls()] == ["did a"]
        assert works.counts == {"a": 1}
        b.assert_idle()


async def test_what_its_client_left_ends_at_the_deadline() -> None:
    works = Works()
    async with bench(*works.tools(timeout_s=60.0)) as b:
        await cancel(await b.start([to("write", "a")], request_id="r", timeout_s=10.0))
        await b.clock.advance(9.0)
        assert works.cancelled == []
        await b.clock.advance(2.0)

        assert works.cancelled == ["a"]
        b.assert_idle()


async def test_a_resend_gives_what_its_client_left_more_time() -> None:
    works = Works()
    async with bench(*works.tools(timeout_s=60.0)) as b:
        await cancel(await b.start([to("write", "a")], request_id="r", timeout_s=10.0))
        await b.clock.advance(5.0)
        second = await b.start([to("write", "a")], request_id="r", timeout_s=30.0)
        await b.clock.advance(20.0)
        assert works.cancelled == []
        works.open("a")
        await settle()

        assert [text_of(call) for call in second.calls()] == ["did a"]


async def test_the_first_sends_deadline_does_not_concern_the_second() -> None:
    works = Works()
    calls = [to("write", "a"), to("write", "b")]
    async with bench(*works.tools(max_concurrency=1, timeout_s=60.0)) as b:
        first = await b.start(calls, request_id="r", timeout_s=5.0)
        second = await b.start(calls, request_id="r", timeout_s=50.0)
        await b.clock.advance(6.0)

        assert reasons(first.calls()) == ["BATCH_DEADLINE", "BATCH_DEADLINE"]
        states = [failure_of(call).state for call in first.calls()]
        assert states == [ExecutionState.UNKNOWN, ExecutionState.NOT_STARTED]
        assert works.cancelled == []
        works.open("a", "b")
        await settle()
        assert [text_of(call) for call in second.calls()] == ["did a", "did b"]
        assert works.counts == {"a": 1, "b": 1}
        third = await b.run(calls, request_id="r")
        assert [text_of(call) for call in third] == ["did a", "did b"]
        b.assert_idle()


async def test_a_joiner_whose_time_is_over_is_honest() -> None:
    works = Works()
    calls = [to("write", "a"), to("write", "b")]
    async with bench(*works.tools(max_concurrency=1, timeout_s=60.0)) as b:
        first = await b.start(calls, request_id="r")
        second = await b.start(calls, request_id="r", timeout_s=5.0)
        await b.clock.advance(6.0)

        assert reasons(second.calls()) == ["BATCH_DEADLINE", "BATCH_DEADLINE"]
        running, waiting = (failure_of(call) for call in second.calls())
        assert running.state is ExecutionState.UNKNOWN
        assert "find out before you call it again" in running.message
        assert waiting.state is ExecutionState.NOT_STARTED
        works.open("a", "b")
        await settle()
        assert reasons(first.calls()) == ["OK", "OK"]
        b.assert_idle()


async def test_a_joiner_between_two_attempts_is_honest() -> None:
    """The first attempt may have taken effect, although none runs."""
    works = Works("a")
    works.failing.add("a")
    async with bench(*works.tools(retry=RETRY)) as b:
        b.engine.registry.states()["put"].retrier._random = lambda: 0.999  # type: ignore[union-attr]
        first = await b.start([to("put", "a")], request_id="r")
        second = await b.start([to("put", "a")], request_id="r", timeout_s=1.0)
        assert works.started == ["a"]
        await b.clock.advance(2.0)

        assert failure_of(second.calls()[0]).state is not ExecutionState.NOT_STARTED
        works.failing.clear()
        await b.clock.advance(20.0)
        assert reasons(first.calls()) == ["OK"]
        b.assert_idle()


async def test_a_leader_that_ends_between_two_attempts_hands_over() -> None:
    works = Works("a")
    works.failing.add("a")
    async with bench(*works.tools(retry=RETRY)) as b:
        b.engine.registry.states()["put"].retrier._random = lambda: 0.999  # type: ignore[union-attr]
        first = await b.start([to("put", "a")], request_id="r", timeout_s=10.0)
        second = await b.start([to("put", "a")], request_id="r")
        works.failing.clear()
        await cancel(first)

        assert reasons(second.calls()) == ["OK"]
        assert works.counts == {"a": 2}
        b.assert_idle()


async def test_a_leader_that_waits_hands_over_when_its_client_goes() -> None:
    works = Works()
    async with bench(*works.tools(max_concurrency=1)) as b:
        other = await b.start([to("write", "other")])
        first = await b.start([to("write", "a")], request_id="r")
        second = await b.start([to("write", "a")], request_id="r")
        await cancel(first)
        works.open("a", "other")
        await settle()

        assert [text_of(call) for call in second.calls()] == ["did a"]
        assert not second.calls()[0].replayed
        assert reasons(other.calls()) == ["OK"]
        assert works.counts == {"a": 1, "other": 1}
        b.assert_idle()


@pytest.mark.parametrize("reason", [None, Reason.CANCELLED, Reason.TOOL_CRASHED])
async def test_a_run_that_may_not_be_repeated_is_not_handed_over(reason: Reason | None) -> None:
    """Its handler breaks its word, or its backend does not know what it has done."""
    started: list[int] = []
    door = asyncio.Event()

    async def broken(call: Call) -> Outcome:
        started.append(call.index)
        await door.wait()
        if reason is not None:
            return unknown_effect(reason, "nobody knows")
        raise asyncio.CancelledError

    async with bench(bound("broken", broken)) as b:
        b.engine.registry.tools["broken"].handler = broken
        turns = [await b.start([ToolCall("", "broken")], request_id="r") for _ in range(3)]
        door.set()
        await settle()

        for turn in turns:
            assert failure_of(turn.calls()[0]).state is ExecutionState.UNKNOWN
        assert started == [0]
        b.assert_idle()


async def test_a_joiner_stops_when_what_it_joined_has_ended() -> None:
    """STOP lets attempts in flight finish, also those of the send before."""
    works = Works()
    works.failing.add("a")
    calls = [to("write", "a"), to("write", "b")]
    async with bench(*works.tools()) as b:
        options: dict[str, Any] = {"request_id": "r", "on_failure": OnFailure.STOP}
        first = await b.start(calls, **options)
        second = await b.start(calls, **options)
        works.open("a")
        await settle()
        assert not second.done
        works.open("b")
        await settle()

        assert reasons(first.calls()) == reasons(second.calls()) == ["TOOL_FAILED", "OK"]
        b.assert_idle()


async def test_a_stopped_joiner_takes_nothing_over() -> None:
    """What it joined was not started after all."""
    works = Works()
    works.failing.add("a")
    release = asyncio.Event()

    async def prepares(call: Call) -> Outcome:
        await release.wait()
        call.take_back()
        return not_started(Reason.TOOL_UNAVAILABLE, "no room")

    tools = [*works.tools(), bound("prepares", prepares, effects=Effects.READ_ONLY)]
    calls = [to("write", "a"), ToolCall("", "prepares")]
    async with bench(*tools) as b:
        options: dict[str, Any] = {"request_id": "r", "on_failure": OnFailure.STOP}
        first = await b.start(calls, **options)
        second = await b.start(calls, **options)
        works.open("a")
        await settle()
        release.set()
        await settle()

        assert reasons(first.calls()) == ["TOOL_FAILED", "TOOL_UNAVAILABLE"]
        assert reasons(second.calls()) == ["TOOL_FAILED", "STOPPED"]
        b.assert_idle()


async def test_a_send_in_order_joins_call_by_call() -> None:
    works = Works()
    calls = [to("write", key) for key in "abc"]
    async with bench(*works.tools()) as b:
        turns = [await b.start(calls, request_id="r", mode=Mode.SEQUENTIAL) for _ in range(3)]
        for key in "abc":
            assert works.started[-1] == key
            works.open(key)
            await settle()

        assert works.started == ["a", "b", "c"]
        assert [reasons(turn.calls()) for turn in turns] == [["OK"] * 3] * 3
        b.assert_idle()


async def test_a_drain_ends_what_runs_for_nobody() -> None:
    works = Works()
    async with bench(*works.tools()) as b:
        await cancel(await b.start([to("write", "a")], request_id="r"))
        await b.engine.stop(1.0)

        assert works.cancelled == ["a"]
        b.assert_idle()


async def test_a_value_that_many_wait_for_is_one_value() -> None:
    works = Works()
    value = works.outcomes["a"] = Success("x" * 1000)
    async with bench(*works.tools()) as b:
        turns = [await b.start([to("write", "a")], request_id="r") for _ in range(5)]
        works.open("a")
        await settle()

        assert all(turn.calls()[0].outcome is value for turn in turns)
