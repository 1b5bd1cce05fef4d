"""Which identical calls share one run, and what each of them gets."""

from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import bench, bound, calls_of, echo, reasons, text_of
from tests.support.runs import COALESCE, FOR_ALL, Runs, read, shared

from sidecall_server.core.call import BlockCause, Mode, OnFailure, ToolCall
from sidecall_server.core.events import CallEvent, Queued, Started
from sidecall_server.core.outcome import Code, ExecutionState, Failure, Reason
from sidecall_server.core.tool import Retry, Sharing

BY_TENANT = Sharing(coalesce=True, cache_ttl_s=None, all_callers=False, context_keys=("tenant",))
RETRY = Retry(3, 1.0, 1.0, 1.0, frozenset({Code.UNKNOWN}))
CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "default": 3},
        "at": {"type": "object", "properties": {"unit": {"default": "C"}}},
    },
}


async def test_identical_calls_of_one_batch_run_once() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        turn = await b.start(calls_of("read", 3))
        assert len(runs) == 1
        assert b.engine.statistics().shared_runs == 1
        await runs[0].finish("one")

        calls = turn.calls()
        assert [text_of(call) for call in calls] == ["one"] * 3
        assert [call.coalesced for call in calls] == [False, True, True]
        assert [call.attempt for call in calls] == [1, 0, 0]
        b.assert_idle()


async def test_identical_calls_of_several_batches_run_once() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        first = await b.start([read()])
        second = await b.start([read()])
        await runs[0].finish("one")

        assert [text_of(c) for c in first.calls() + second.calls()] == ["one", "one"]
        assert len(runs) == 1
        b.assert_idle()


async def test_a_run_that_ended_answers_nobody_any_more() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        await b.start([read()])
        await runs[0].finish()
        again = await b.start([read()])
        await runs[1].finish("two")

        assert text_of(again.calls()[0]) == "two"
        assert not again.calls()[0].coalesced


@pytest.mark.parametrize(
    ("sharing", "one", "other", "count"),
    [
        (COALESCE, {"identity": "ann"}, {"identity": "ann"}, 1),
        (COALESCE, {"identity": "ann", "caller": "a"}, {"identity": "ann", "caller": "b"}, 1),
        (COALESCE, {"identity": "ann"}, {"identity": "bob"}, 2),
        (FOR_ALL, {"identity": "ann"}, {"identity": "bob"}, 1),
        (COALESCE, {"context": {"tenant": "x"}}, {"context": {"tenant": "y"}}, 1),
        (BY_TENANT, {"context": {"tenant": "x"}}, {"context": {"tenant": "y"}}, 2),
        (BY_TENANT, {"context": {"tenant": "x"}}, {}, 2),
        (BY_TENANT, {"context": {"a": "1"}}, {"context": {"a": "2"}}, 1),
    ],
)
async def test_who_shares(
    sharing: Sharing, one: dict[str, Any], other: dict[str, Any], count: int
) -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=sharing)) as b:
        await b.start([read()], **one)
        await b.start([read()], **other)
        assert len(runs) == count


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ('{"city": "Ulm", "days": 3}', '{"days":3,"city":"Ulm"}', 1),
        ('{"city": "Ulm"}', '{"city": "Ulm", "days": 3}', 1),
        ('{"at": {}}', '{"at": {"unit": "C"}}', 1),
        ('{"city": "\\u0055lm"}', '{"city": "Ulm"}', 1),
        ('{"city": "Ulm"}', '{"city": "Bonn"}', 2),
        ('{"days": 4}', '{"days": 3}', 2),
        ('{"x": 1}', '{"x": 1.0}', 2),
        ('{"x": 1}', '{"x": true}', 2),
        ("", "{}", 1),
    ],
)
async def test_which_arguments_are_equal(one: str, other: str, count: int) -> None:
    runs = Runs()
    async with bench(shared(runs, input_schema=CITY)) as b:
        await b.start([read(one), read(other)])
        assert len(runs) == count


async def test_calls_of_different_tools_are_never_identical() -> None:
    runs = Runs()
    async with bench(shared(runs), shared(runs, "other")) as b:
        await b.start([read(), ToolCall("", "other")])
        assert len(runs) == 2


async def test_references_are_resolved_before_calls_are_compared() -> None:
    runs = Runs()
    async with bench(shared(runs), bound("echo", echo)) as b:
        await b.start(
            [
                ToolCall("a", "echo", '{"text": "Ulm"}'),
                ToolCall("b", "echo", '{"text": "Bonn"}'),
                read('{"city": "$ref:a"}'),
                read('{"city": "Ulm"}'),
                read('{"city": "$ref:b"}'),
            ]
        )
        assert sorted(run.call.arguments["city"] for run in runs.all) == ["Bonn", "Ulm"]


async def test_each_call_has_arguments_of_its_own() -> None:
    """A leader that was given up may have changed its arguments before."""
    runs = Runs()
    async with bench(shared(runs, max_concurrency=1, queue_timeout_s=5)) as b:
        turn = await b.start([read('{"city": ["Ulm"]}')] * 2)
        first = runs[0].call
        first.arguments["city"].append("changed")
        await runs[0].finish(Failure(Reason.TOOL_UNAVAILABLE, "no", ExecutionState.NOT_STARTED))

        assert runs[1].call.arguments == {"city": ["Ulm"]}
        await runs[1].finish("two")
        assert reasons(turn.calls()) == ["TOOL_UNAVAILABLE", "OK"]
        b.assert_idle()


async def test_a_failure_is_shared() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        first, second = await b.start([read()] * 2), await b.start([read()])
        await runs[0].fail("no such city")

        calls = first.calls() + second.calls()
        assert reasons(calls) == ["TOOL_FAILED"] * 3
        assert [call.coalesced for call in calls] == [False, True, True]
        assert len(runs) == 1
        b.assert_idle()


async def test_a_timeout_is_shared() -> None:
    runs = Runs()
    async with bench(shared(runs, timeout_s=5)) as b:
        first, second = await b.start([read()]), await b.start([read()])
        await b.clock.advance(5)

        assert reasons(first.calls() + second.calls()) == ["TOOL_TIMEOUT"] * 2
        assert runs[0].cancelled
        assert len(runs) == 1
        b.assert_idle()


async def test_the_retries_of_the_leader_are_those_of_all() -> None:
    runs = Runs()
    async with bench(shared(runs, retry=RETRY)) as b:
        first, second = await b.start([read()]), await b.start([read()])
        await runs[0].fail()
        late = await b.start([read()])
        await b.clock.advance(1)
        await runs[1].fail()
        await b.clock.advance(1)
        await runs[2].finish("third time")

        calls = first.calls() + second.calls() + late.calls()
        assert [text_of(call) for call in calls] == ["third time"] * 3
        assert [len(call.failed_attempts) for call in calls] == [2, 0, 0]
        assert len(runs) == 3
        b.assert_idle()


async def test_the_last_failure_of_the_leader_is_that_of_all() -> None:
    runs = Runs()
    async with bench(shared(runs, retry=RETRY)) as b:
        turn = await b.start([read()] * 2)
        for number in range(3):
            await runs[number].fail(f"failure {number}")
            await b.clock.advance(1)

        assert reasons(turn.calls()) == ["TOOL_FAILED"] * 2
        assert len(runs) == 3
        b.assert_idle()


async def test_a_call_that_waits_says_so() -> None:
    runs = Runs()
    events: list[CallEvent] = []

    def observe(event: CallEvent) -> None:
        events.append(event)

    async with bench(shared(runs)) as b:
        turn = await b.start([read()] * 2, observe)
        assert Queued(1, BlockCause.SAME_CALL) in events
        await b.clock.advance(3)
        await runs[0].finish()

        leader, follower = turn.calls()
        assert leader.blocked_ns is None
        assert follower.blocked_ns == {BlockCause.SAME_CALL: 3_000_000_000}
        assert [event.index for event in events if isinstance(event, Started)] == [0]


async def test_sequential_calls_are_never_in_flight_together() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        turn = await b.start([read()] * 2, mode=Mode.SEQUENTIAL)
        await runs[0].finish("one")
        await runs[1].finish("two")

        assert [text_of(call) for call in turn.calls()] == ["one", "two"]


async def test_a_run_that_begins_while_another_one_ends_can_be_joined() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        turn = await b.start([read()] * 2, mode=Mode.SEQUENTIAL)
        await runs[0].finish("one")
        other = await b.start([read()])
        await runs[1].finish("two")

        assert [text_of(call) for call in turn.calls() + other.calls()] == ["one", "two", "two"]
        b.assert_idle()


async def test_a_sequential_call_joins_a_run_that_the_one_before_it_hands_over() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        turn = await b.start([read()] * 2, mode=Mode.SEQUENTIAL)
        other = await b.start([read()])
        await runs[0].finish(Failure(Reason.TOOL_UNAVAILABLE, "no", ExecutionState.NOT_STARTED))
        assert len(runs) == 2
        await runs[1].finish("two")

        assert reasons(turn.calls() + other.calls()) == ["TOOL_UNAVAILABLE", "OK", "OK"]
        b.assert_idle()


async def test_a_sequential_batch_joins_the_run_of_another_one() -> None:
    runs = Runs()
    async with bench(shared(runs), bound("echo", echo)) as b:
        other = await b.start([read()])
        turn = await b.start([read(), ToolCall("", "echo")], mode=Mode.SEQUENTIAL)
        await runs[0].finish("one")

        assert [text_of(call) for call in turn.calls()] == ["one", "done"]
        assert len(runs) == 1
        assert other.done


async def test_a_shared_failure_stops_every_batch_that_says_so() -> None:
    runs, others = Runs(), Runs()
    async with bench(shared(runs), bound("write", others, max_concurrency=1)) as b:
        await b.start([ToolCall("", "write")])
        first = await b.start([read()])
        turn = await b.start(
            [read(), ToolCall("", "write"), read('{"a": 1}')], on_failure=OnFailure.STOP
        )
        await runs[0].fail()

        assert reasons(first.calls()) == ["TOOL_FAILED"]
        await runs[1].finish()
        assert reasons(turn.calls()) == ["TOOL_FAILED", "STOPPED", "OK"]
        await others[0].finish()
        b.assert_idle()


async def test_identical_calls_after_a_failure_with_stop_were_not_shared() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        turn = await b.start([read()] * 3, on_failure=OnFailure.STOP)
        await runs[0].fail()

        assert reasons(turn.calls()) == ["TOOL_FAILED", "STOPPED", "STOPPED"]
        assert [call.coalesced for call in turn.calls()] == [False] * 3
        b.assert_idle()


async def test_a_shared_failure_stops_the_other_calls_that_wait_for_it() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        await b.start([read()])
        turn = await b.start([read()] * 3, on_failure=OnFailure.STOP)
        await runs[0].fail()

        calls = turn.calls()
        assert reasons(calls) == ["TOOL_FAILED", "STOPPED", "STOPPED"]
        assert [call.coalesced for call in calls] == [True, False, False]
        b.assert_idle()


async def test_a_follower_is_what_others_depend_on() -> None:
    runs = Runs()
    async with bench(shared(runs), bound("echo", echo)) as b:
        turn = await b.start([read(), read(), ToolCall("", "echo", '{"text": "<${ref:@2}>"}')])
        await runs[0].finish("one")
        await settle()

        assert text_of(turn.calls()[2]) == "<one>"


async def test_tools_that_do_not_share_run_each_call() -> None:
    runs = Runs()
    async with bench(bound("read", runs)) as b:
        await b.start([read()] * 3)
        assert len(runs) == 3
        assert b.engine.statistics().shared_runs == 0
