"""A batch that is sent again after its end: what comes back, and what runs."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import Bench, bench, bound, echo, failure_of, reasons, text_of
from tests.support.works import Works, to

from sidecall_server.core.call import Call, Mode, OnFailure, ToolCall
from sidecall_server.core.outcome import ExecutionState, Failure, Reason
from sidecall_server.core.records import Scope, ScopeKind
from sidecall_server.core.tool import Lane


async def vanish(b: Bench, calls: Sequence[ToolCall], **options: Any) -> None:
    """Sends a batch whose client goes away when everything has settled."""
    turn = await b.start(calls, **options)
    turn.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn.task
    await settle()


def flags(calls: Sequence[Call]) -> list[bool]:
    return [call.replayed for call in calls]


async def test_what_completed_comes_back_and_does_not_run() -> None:
    works = Works("a", "b", "c")
    works.failing.add("b")
    calls = [to("write", "a"), to("write", "b"), to("read", "c")]
    async with bench(*works.tools()) as b:
        first = await b.run(calls, request_id="r")
        again = await b.run(calls, request_id="r")

        assert flags(first) == [False, False, False]
        assert flags(again) == [True, True, True]
        assert reasons(again) == ["OK", "TOOL_FAILED", "OK"]
        assert [text_of(again[0]), text_of(again[2])] == ["did a", "did c"]
        assert failure_of(again[1]) == failure_of(first[1])
        assert [call.attempt for call in again] == [1, 1, 1]
        assert works.counts == {"a": 1, "b": 1, "c": 1}
        b.assert_idle()


async def test_without_a_request_id_calls_run_each_time() -> None:
    works = Works("a")
    async with bench(*works.tools()) as b:
        await b.run([to("write", "a")])
        again = await b.run([to("write", "a")])

        assert flags(again) == [False]
        assert works.counts == {"a": 2}
        assert b.engine.statistics().remembered == 0


async def test_what_never_started_runs() -> None:
    works = Works()
    calls = [to("write", "a"), to("write", "b")]
    async with bench(*works.tools(max_concurrency=1)) as b:
        turn = await b.start(calls, request_id="r", timeout_s=1.0)
        await b.clock.advance(2.0)
        assert reasons(turn.calls()) == ["BATCH_DEADLINE", "BATCH_DEADLINE"]
        works.open("b")

        again = await b.run(calls, request_id="r")

        assert reasons(again) == ["OUTCOME_UNKNOWN", "OK"]
        assert failure_of(again[0]).state is ExecutionState.UNKNOWN
        assert flags(again) == [True, False]
        assert works.counts == {"a": 1, "b": 1}


@pytest.mark.parametrize("tool", ["put", "read"])
async def test_what_is_unknown_and_may_be_repeated_runs(tool: str) -> None:
    works = Works()
    async with bench(*works.tools(timeout_s=1.0)) as b:
        turn = await b.start([to(tool, "a")], request_id="r")
        await b.clock.advance(2.0)
        assert reasons(turn.calls()) == ["TOOL_TIMEOUT"]
        works.open("a")

        again = await b.run([to(tool, "a")], request_id="r")

        assert reasons(again) == ["OK"]
        assert flags(again) == [False]
        third = await b.run([to(tool, "a")], request_id="r")
        assert flags(third) == [True]
        assert works.counts == {"a": 2}


async def test_a_call_that_the_client_cancelled_is_not_started_again() -> None:
    works = Works()
    async with bench(*works.tools(timeout_s=1.0)) as b:
        await vanish(b, [to("write", "a")], request_id="r")
        await b.clock.advance(2.0)
        works.open("a")

        again = await b.run([to("write", "a")], request_id="r")

        assert reasons(again) == ["OUTCOME_UNKNOWN"]
        assert "a" not in works.started[1:]


async def test_a_failure_before_the_start_is_found_anew() -> None:
    works = Works("a")
    bad = ToolCall("x", "nowhere")
    async with bench(*works.tools()) as b:
        first = await b.run([bad, to("write", "a")], request_id="r")
        b.engine.registry.swap([*works.tools(), bound("nowhere", echo)])
        again = await b.run([bad, to("write", "a")], request_id="r")

        assert reasons(first) == ["TOOL_NOT_FOUND", "OK"]
        assert reasons(again) == ["OK", "OK"]
        assert flags(again) == [False, True]


async def test_a_tool_that_is_gone_still_has_its_results() -> None:
    works = Works("a")
    calls = [to("write", "a"), to("write", "b")]
    async with bench(*works.tools(timeout_s=1.0)) as b:
        turn = await b.start(calls, request_id="r")
        await b.clock.advance(2.0)
        assert reasons(turn.calls()) == ["OK", "TOOL_TIMEOUT"]
        b.engine.registry.swap([])

        again = await b.run(calls, request_id="r")

        assert reasons(again) == ["OK", "OUTCOME_UNKNOWN"]


async def test_references_between_replayed_and_new_calls() -> None:
    works = Works("a", "did a", "did did a")
    calls = [
        to("write", "a", "one"),
        ToolCall("two", "write", '{"key": "$ref:one"}'),
        ToolCall("three", "write", '{"key": "$ref:two"}'),
    ]
    works.shut("did a")
    async with bench(*works.tools(timeout_s=1.0)) as b:
        turn = await b.start(calls, request_id="r", timeout_s=0.5)
        works.open("did a")
        await settle()
        assert reasons(turn.calls()) == ["OK", "OK", "OK"]
        assert reasons(await b.run(calls, request_id="r")) == ["OK", "OK", "OK"]
        assert works.counts == {"a": 1, "did a": 1, "did did a": 1}

        works.shut("did a")
        await vanish(b, calls, request_id="s")
        works.open("did a")
        await settle()
        again = await b.run(calls, request_id="s")

        assert flags(again) == [True, True, False]
        assert text_of(again[2]) == "did did did a"
        assert works.counts == {"a": 2, "did a": 2, "did did a": 2}


async def test_a_reference_that_cannot_be_resolved_any_more_costs_no_result() -> None:
    """Sessions forget, and do not survive the process: results of requests do."""
    works = Works("a", "did a")
    calls = [ToolCall("two", "write", '{"key": "$ref:one"}')]
    async with bench(*works.tools(), session_retention_s=10.0) as b:
        await b.run([to("write", "a", "one")], session_id="s")
        first = await b.run(calls, session_id="s", request_id="r")
        await b.clock.advance(20.0)
        again = await b.run(calls, session_id="s", request_id="r")

        assert text_of(first[0]) == text_of(again[0]) == "did did a"
        assert flags(again) == [True]


async def test_sequential_batches_go_on_where_they_were() -> None:
    works = Works("a", "c")
    calls = [to("write", key) for key in "abc"]
    async with bench(*works.tools(timeout_s=60.0)) as b:
        await vanish(b, calls, request_id="r", mode=Mode.SEQUENTIAL)
        assert works.started == ["a", "b"]
        works.open("b")
        await settle()
        assert works.started == ["a", "b"], "what had not started must not"

        again = await b.run(calls, request_id="r", mode=Mode.SEQUENTIAL)

        assert reasons(again) == ["OK", "OK", "OK"]
        assert flags(again) == [True, True, False]
        assert works.started == ["a", "b", "c"]


async def test_a_stop_takes_no_results_away() -> None:
    works = Works("b", "c")
    works.failing.add("a")
    calls = [to("write", key) for key in "abc"]
    async with bench(*works.tools()) as b:
        turn = await b.start(calls, request_id="r", on_failure=OnFailure.STOP)
        works.open("a")
        await settle()
        again = await b.run(calls, request_id="r", on_failure=OnFailure.STOP)

        assert reasons(turn.calls()) == reasons(again) == ["TOOL_FAILED", "OK", "OK"]
        assert works.counts == {"a": 1, "b": 1, "c": 1}


async def test_a_failed_dependency_takes_no_results_away() -> None:
    """The first send saw it fail after its dependant's sibling had completed."""
    works = Works("a", "b")
    calls = [to("put", "a", "one"), to("write", "b", "two", depends_on=("one",))]
    async with bench(*works.tools()) as b:
        await b.run(calls, request_id="r")
        # As after a crash that lost the first outcome and not the second.
        log = b.engine.ledger._logs.get(Scope(ScopeKind.REQUEST, "", "", "r"))
        assert log is not None
        log.entries[0].outcome = None
        works.failing.add("a")
        again = await b.run(calls, request_id="r")

        assert reasons(again) == ["TOOL_FAILED", "OK"]
        assert flags(again) == [False, True]
        assert works.counts == {"a": 2, "b": 1}


async def test_a_resend_whose_time_is_over_says_what_is_known() -> None:
    works = Works("b", "c")
    calls = [to("put", "a", "one"), to("write", "b"), to("write", "c", depends_on=("one",))]
    async with bench(*works.tools(timeout_s=5.0)) as b:
        turn = await b.start(calls, request_id="r")
        await b.clock.advance(6.0)
        assert reasons(turn.calls()) == ["TOOL_TIMEOUT", "OK", "DEPENDENCY_FAILED"]

        turn = await b.start(calls, request_id="r", timeout_s=1.0)
        await b.clock.advance(2.0)

        again = turn.calls()
        assert reasons(again) == ["BATCH_DEADLINE", "OK", "BATCH_DEADLINE"]
        assert failure_of(again[0]).state is ExecutionState.UNKNOWN
        assert failure_of(again[2]).state is ExecutionState.NOT_STARTED


async def test_lanes_hold_on_a_resend() -> None:
    works = Works("a", "c")
    lane = Lane("x", skip_rest=False)
    calls = [to("write", key) for key in "abc"]
    async with bench(*works.tools(lane=lane)) as b:
        await vanish(b, calls, request_id="r")
        assert works.started == ["a", "b"]
        second = await b.start(calls, request_id="r")
        assert works.started == ["a", "b"]
        works.open("b")
        await settle()

        assert reasons(second.calls()) == ["OK", "OK", "OK"]
        assert works.started == ["a", "b", "c"]
        b.assert_idle()


async def test_lanes_that_skip_the_rest_do_so_again() -> None:
    works = Works("a", "b", "c")
    works.failing.add("b")
    lane = Lane("x", skip_rest=True)
    calls = [to("write", key) for key in "abc"]
    async with bench(*works.tools(lane=lane)) as b:
        first = await b.run(calls, request_id="r")
        again = await b.run(calls, request_id="r")

        assert reasons(first) == reasons(again) == ["OK", "TOOL_FAILED", "STOPPED"]
        assert works.started == ["a", "b"]


async def test_an_empty_batch_is_remembered_as_such() -> None:
    async with bench() as b:
        assert await b.run([], request_id="r") == []
        assert await b.run([], request_id="r") == []
        b.assert_idle()


async def test_ten_thousand_replays_in_order() -> None:
    works = Works("a")
    calls = [to("write", "a")] * 10_000
    async with bench(*works.tools()) as b:
        turn = await b.start(calls, request_id="r", mode=Mode.SEQUENTIAL)
        await turn.task
        again = await b.start(calls, request_id="r", mode=Mode.SEQUENTIAL)
        await again.task

        assert works.counts == {"a": 10_000}
        assert all(call.replayed for call in again.calls())


async def test_the_sidecars_own_fault_is_not_repeated() -> None:
    works = Works("a")
    works.outcomes["a"] = Failure(Reason.INTERNAL, "a fault", ExecutionState.UNKNOWN)
    async with bench(*works.tools()) as b:
        await b.run([to("write", "a")], request_id="r")
        again = await b.run([to("write", "a")], request_id="r")

        assert reasons(again) == ["OUTCOME_UNKNOWN"]
        assert works.counts == {"a": 1}
