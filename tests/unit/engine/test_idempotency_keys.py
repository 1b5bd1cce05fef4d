"""Calls with an idempotency_key: each runs once, in whatever batch it comes."""

import asyncio
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import bench, failure_of, reasons, text_of
from tests.support.works import Works, to

from sidecall_server.core.call import Mode, ToolCall
from sidecall_server.core.outcome import Code, ExecutionState, Reason, Success, not_started
from sidecall_server.core.tool import Retry

RETRY = Retry(
    max_attempts=3, backoff_s=1.0, max_backoff_s=1.0, budget=1.0, codes=frozenset({Code.UNKNOWN})
)


def keyed(tool: str, key: str, idempotency_key: str = "k", **fields: Any) -> ToolCall:
    return to(tool, key, idempotency_key=idempotency_key, **fields)


async def test_a_key_is_replayed_across_batches_and_requests() -> None:
    works = Works("a")
    async with bench(*works.tools()) as b:
        first = await b.run([keyed("write", "a")])
        bare = await b.run([to("read", "a"), keyed("write", "a", call_id="other id")])
        named = await b.run([keyed("write", "a")], request_id="r")

        assert [call.replayed for call in first] == [False]
        assert [call.replayed for call in bare] == [False, True]
        assert [call.replayed for call in named] == [True]
        assert {text_of(call) for call in (*first, *bare, *named)} == {"did a"}
        assert [named[0].attempt, bare[1].attempt] == [1, 1]
        assert works.counts == {"a": 2}
        b.assert_idle()


async def test_a_failure_of_the_tool_is_replayed_as_well() -> None:
    works = Works("a")
    works.failing.add("a")
    async with bench(*works.tools()) as b:
        first = await b.run([keyed("write", "a")])
        again = await b.run([keyed("write", "a")])

        assert failure_of(first[0]) == failure_of(again[0])
        assert works.counts == {"a": 1}


async def test_a_call_in_flight_is_joined() -> None:
    works = Works()
    async with bench(*works.tools()) as b:
        turns = [await b.start([keyed("write", "a")], request_id=name) for name in ("", "r", "s")]
        works.open("a")
        await settle()

        assert [text_of(turn.calls()[0]) for turn in turns] == ["did a"] * 3
        assert [turn.calls()[0].replayed for turn in turns] == [False, True, True]
        assert works.counts == {"a": 1}
        b.assert_idle()


@pytest.mark.parametrize("mode", Mode)
async def test_two_calls_of_one_batch_with_one_key(mode: Mode) -> None:
    works = Works("a")
    async with bench(*works.tools()) as b:
        calls = await b.run([keyed("write", "a"), keyed("write", "a", call_id="x")], mode=mode)

        assert [text_of(call) for call in calls] == ["did a", "did a"]
        assert [call.replayed for call in calls] == [False, True]
        assert works.counts == {"a": 1}
        b.assert_idle()


async def test_other_arguments_are_refused() -> None:
    works = Works("a", "b")
    async with bench(*works.tools()) as b:
        calls = await b.run([keyed("write", "a"), keyed("write", "b"), to("write", "b")])

        assert reasons(calls) == ["OK", "IDEMPOTENCY_KEY_REUSED", "OK"]
        assert failure_of(calls[1]).state is ExecutionState.NOT_STARTED
        assert works.counts == {"a": 1, "b": 1}
        assert reasons(await b.run([keyed("write", "b")])) == ["IDEMPOTENCY_KEY_REUSED"]
        b.assert_idle()


async def test_arguments_are_compared_as_values() -> None:
    works = Works("a")
    async with bench(*works.tools()) as b:
        calls = await b.run(
            [
                ToolCall("", "write", '{"key": "a", "n": 1}', idempotency_key="k"),
                ToolCall("", "write", ' { "n" :1,"key":"\\u0061"}', idempotency_key="k"),
                ToolCall("", "write", '{"key": "a", "n": 2}', idempotency_key="k"),
            ]
        )

        assert reasons(calls) == ["OK", "OK", "IDEMPOTENCY_KEY_REUSED"]
        assert works.counts == {"a": 1}


async def test_arguments_are_compared_as_they_are_resolved() -> None:
    works = Works("a", "b", "did a")
    async with bench(*works.tools()) as b:
        first = await b.run(
            [
                to("read", "a", "one"),
                ToolCall("", "write", '{"key": "$ref:one"}', idempotency_key="k"),
            ]
        )
        same = await b.run([keyed("write", "did a")])
        other = await b.run(
            [
                to("read", "b", "one"),
                ToolCall("", "write", '{"key": "$ref:one"}', idempotency_key="k"),
            ]
        )

        assert reasons(first) == ["OK", "OK"]
        assert [call.replayed for call in same] == [True]
        assert reasons(other) == ["OK", "IDEMPOTENCY_KEY_REUSED"]
        assert works.counts["did a"] == 1


async def test_the_tool_and_the_caller_belong_to_the_key() -> None:
    works = Works("a")
    async with bench(*works.tools()) as b:
        await b.run([keyed("write", "a")], identity="alice")
        other_tool = await b.run([keyed("put", "a")], identity="alice")
        other_caller = await b.run([keyed("write", "a")], identity="bob")

        assert [other_tool[0].replayed, other_caller[0].replayed] == [False, False]
        assert works.counts == {"a": 3}


async def test_the_key_of_an_invalid_call_may_be_used_again() -> None:
    works = Works("a")
    schema = {"type": "object", "required": ["key", "n"]}
    async with bench(*works.tools(input_schema=schema)) as b:
        first = await b.run([keyed("write", "a")])
        repaired = await b.run([keyed("write", "a", arguments={"n": 1})])

        assert reasons(first) == ["ARGUMENTS_INVALID"]
        assert reasons(repaired) == ["OK"]
        assert not repaired[0].replayed


async def test_a_call_that_never_started_runs_the_next_time() -> None:
    works = Works("a")
    works.outcomes["a"] = not_started(Reason.TOOL_UNAVAILABLE, "no room")
    async with bench(*works.tools()) as b:
        assert reasons(await b.run([keyed("write", "a")])) == ["TOOL_UNAVAILABLE"]
        works.outcomes["a"] = Success("run")
        again = await b.run([keyed("write", "a")])

        assert text_of(again[0]) == "run"
        assert not again[0].replayed


@pytest.mark.parametrize(("tool", "reason"), [("write", "OUTCOME_UNKNOWN"), ("put", "OK")])
async def test_an_unknown_end(tool: str, reason: str) -> None:
    works = Works()
    async with bench(*works.tools(timeout_s=1.0)) as b:
        turn = await b.start([keyed(tool, "a")])
        await b.clock.advance(2.0)
        assert reasons(turn.calls()) == ["TOOL_TIMEOUT"]
        works.open("a")

        assert reasons(await b.run([keyed(tool, "a")])) == [reason]


async def test_a_client_that_goes_leaves_its_call_to_who_has_joined() -> None:
    works = Works()
    async with bench(*works.tools()) as b:
        first = await b.start([keyed("write", "a")])
        second = await b.start([keyed("write", "a")])
        first.task.cancel()
        await settle()
        assert works.cancelled == []
        works.open("a")
        await settle()

        assert [text_of(call) for call in second.calls()] == ["did a"]
        b.assert_idle()


async def test_a_run_that_nobody_waits_for_any_more_is_cancelled() -> None:
    works = Works()
    async with bench(*works.tools()) as b:
        turns = [await b.start([keyed("write", "a")]) for _ in range(3)]
        for turn in turns:
            assert works.cancelled == []
            turn.task.cancel()
            await settle()

        assert works.cancelled == ["a"]
        b.assert_idle()
        assert reasons(await b.run([keyed("write", "a")])) == ["OUTCOME_UNKNOWN"]


@pytest.mark.parametrize("joins", [False, True])
async def test_one_who_joined_by_key_takes_nothing_from_the_request(joins: bool) -> None:
    """The request's run goes on without a client, whoever else came and went."""
    works = Works()
    async with bench(*works.tools()) as b:
        first = await b.start([keyed("write", "a")], request_id="r")
        second = await b.start([keyed("write", "a")], request_id="r") if joins else None
        other = await b.start([keyed("write", "a")])
        first.task.cancel()
        await settle()
        other.task.cancel()
        await settle()
        assert works.cancelled == []
        works.open("a")
        await settle()

        if second is not None:
            assert [text_of(call) for call in second.calls()] == ["did a"]
        again = await b.run([keyed("write", "a")], request_id="r")
        assert [text_of(call) for call in again] == ["did a"]
        assert works.counts == {"a": 1}
        b.assert_idle()


async def test_one_who_joined_by_key_learns_the_end_in_a_resend() -> None:
    works = Works()
    async with bench(*works.tools()) as b:
        leader = await b.start([keyed("write", "a")])
        joined = await b.start([keyed("write", "a")], request_id="r", timeout_s=1.0)
        await b.clock.advance(2.0)
        assert reasons(joined.calls()) == ["BATCH_DEADLINE"]
        assert failure_of(joined.calls()[0]).state is ExecutionState.UNKNOWN
        works.open("a")
        await settle()
        again = await b.run([keyed("write", "a")], request_id="r")

        assert [text_of(call) for call in again] == ["did a"]
        assert reasons(leader.calls()) == ["OK"]
        assert works.counts == {"a": 1}


async def test_keys_with_retries() -> None:
    works = Works("a")
    works.failing.add("a")
    async with bench(*works.tools(retry=RETRY)) as b:
        first = await b.start([keyed("put", "a")])
        second = await b.start([keyed("put", "a")])
        assert works.started == ["a"]
        works.failing.clear()
        await b.clock.advance(1.0)
        third = await b.run([keyed("put", "a")])

        for call in (*first.calls(), *second.calls(), *third):
            assert text_of(call) == "did a"
            assert call.attempt == 2
        assert works.counts == {"a": 2}
        b.assert_idle()


async def test_keys_that_lead_across_batches_cannot_block_each_other() -> None:
    works = Works(*"abcd")
    one = [keyed("write", "a", "ka"), keyed("write", "b", "kb")]
    async with bench(*works.tools()) as b:
        turns = [
            await b.start(calls, mode=Mode.SEQUENTIAL) for calls in (one, one[::-1], one, one[::-1])
        ]
        await settle()

        assert [reasons(turn.calls()) for turn in turns] == [["OK", "OK"]] * 4
        assert works.counts == {"a": 1, "b": 1}


async def test_keys_alone_are_forgotten_too() -> None:
    works = Works("a")
    async with bench(*works.tools(), request_retention_s=60.0) as b:
        await b.run([keyed("write", "a", "k")])
        await b.clock.advance(59.0)
        (kept,) = await b.run([keyed("write", "a", "k")])
        await b.clock.advance(61.0)
        (late,) = await b.run([keyed("write", "a", "k")])

        assert [kept.replayed, late.replayed] == [True, False]
        assert b.engine.statistics().remembered == 1


async def test_a_batch_that_ends_leaves_no_key_in_use() -> None:
    works = Works()
    async with bench(*works.tools(), request_retention_s=10.0) as b:
        turn = await b.start([keyed("write", "a"), keyed("write", "a")], request_id="r")
        turn.task.cancel()
        await settle()
        assert b.engine.statistics().remembered == 2
        works.open("a")
        await settle()
        await b.clock.advance(11.0)
        await b.run([keyed("read", "a", "other")])

        assert b.engine.statistics().remembered == 1


async def test_a_drain_lets_keys_of_running_batches_start() -> None:
    works = Works("b")
    calls = [to("write", "a", "one"), keyed("write", "b", depends_on=("one",))]
    async with bench(*works.tools()) as b:
        turn = await b.start(calls)
        b.engine.refuse_batches()
        works.open("a")
        await asyncio.sleep(0)
        await settle()

        assert reasons(turn.calls()) == ["OK", "OK"]
