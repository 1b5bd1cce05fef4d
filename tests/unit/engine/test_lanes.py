"""Lanes: one at a time and in order for each key, whoever calls; other keys go on."""

import asyncio
import json

import pytest
from tests.support.clock import FakeClock, settle
from tests.support.engines import Gate, bench, bound, calls_of, echo, failure_of, reasons
from tests.support.policies import (
    READ_ONLY,
    SECOND_NS,
    Stage,
    Starts,
    Watch,
    broken,
    every,
    per_second,
    retry,
    unavailable,
)

from sidecall_server.core.call import BatchOptions, BlockCause, Mode, OnFailure, ToolCall
from sidecall_server.core.outcome import ExecutionState
from sidecall_server.core.tool import Lane
from sidecall_server.engine.stream import StreamIntake

LANE = Lane("key:{key}")
SKIP_REST = Lane("key:{key}", skip_rest=True)


def on(key: object, call_id: str = "", name: str = "tool", **fields: object) -> ToolCall:
    """A call with a key."""
    return ToolCall(call_id, name, json.dumps({"key": key}), **fields)  # type: ignore[arg-type]  # fields of any kind


async def test_calls_of_one_key_run_one_at_a_time_in_order() -> None:
    stage, watch = Stage(), Watch()
    async with bench(bound("tool", stage, lane=LANE)) as b:
        turn = await b.start([on("a", "1"), on("b", "2"), on("a", "3"), on("a", "4")], watch)
        assert stage.running == ["1", "2"]
        await b.clock.advance(1)
        await stage.end("1")
        assert stage.running == ["2", "3"]
        await b.clock.advance(1)
        await stage.end("3")
        assert stage.running == ["2", "4"]
        await stage.end("4", "2")

        assert reasons(turn.calls()) == ["OK"] * 4
        assert [call.blocked_ns for call in turn.calls()] == [
            None,
            None,
            {BlockCause.LANE: SECOND_NS},
            {BlockCause.LANE: 2 * SECOND_NS},
        ]
        assert set(watch.queued) <= {(2, BlockCause.LANE), (3, BlockCause.LANE)}
        b.assert_idle()


async def test_lanes_hold_across_batches_and_callers_in_the_order_of_readiness() -> None:
    stage, watch = Stage(), Watch()
    async with bench(bound("tool", stage, lane=LANE)) as b:
        await b.start([on("a", "1"), on("a", "2")], caller="first")
        third = await b.start([on("a", "3"), on("b", "4")], watch, caller="second")
        assert stage.running == ["1", "4"]
        assert watch.queued == [(0, BlockCause.LANE)]
        await b.clock.advance(2)
        await stage.end("1", "4")
        assert stage.running == ["3"]  # it was ready before the second one was
        await stage.end("3")
        assert stage.running == ["2"]
        await stage.end("2")

        assert third.calls()[0].blocked_ns == {BlockCause.LANE: 2 * SECOND_NS}
        assert b.engine.statistics().lanes == 0
        b.assert_idle()


async def test_tools_whose_keys_are_equal_share_a_lane() -> None:
    stage = Stage()
    other = Lane("key:{from.id}")
    async with bench(bound("tool", stage, lane=LANE), bound("move", stage, lane=other)) as b:
        move = ToolCall("2", "move", '{"from": {"id": 7}}')
        await b.start([on("7", "1"), move])
        assert stage.running == ["1"]
        await stage.end("1")
        assert stage.running == ["2"]
        await stage.end("2")
        b.assert_idle()


async def test_an_empty_key_is_a_key() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=Lane("{key}", skip_rest=True))) as b:
        turn = await b.start([on("", "1"), on("", "2"), on("b", "3"), on("b", "4")])
        assert stage.running == ["1", "3"]
        await stage.end("1", outcome=broken())
        await stage.end("3", "4")

        assert reasons(turn.calls()) == ["TOOL_FAILED", "STOPPED", "OK", "OK"]
        b.assert_idle()


async def test_a_key_that_waits_for_a_result_is_a_barrier() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=LANE), bound("read", stage)) as b:
        turn = await b.start(
            [
                ToolCall("read", "read"),
                on("a", "1"),
                on("$ref:read", "2"),
                on("b", "3"),
                on("a", "4"),
            ]
        )
        assert stage.running == ["read", "1"]
        await stage.end("read", outcome="c")
        assert stage.running == ["1"]  # its key is known now, but it was not when it counted
        await stage.end("1")
        assert stage.running == ["2"]
        await stage.end("2")
        assert stage.running == ["3", "4"]
        await stage.end("3", "4")
        assert reasons(turn.calls()) == ["OK"] * 5
        b.assert_idle()


async def test_a_missing_argument_is_a_barrier_within_and_a_lane_of_its_own_beyond() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=LANE)) as b:
        await b.start([on("a", "1"), ToolCall("2", "tool"), on("b", "3")])
        await b.start([ToolCall("4", "tool"), on("c", "5")])
        assert stage.running == ["1", "4"]
        await stage.end("1")
        assert stage.running == ["4"]
        await stage.end("4")
        assert sorted(stage.running) == ["2", "5"]
        await stage.end("2", "5")
        assert stage.running == ["3"]
        await stage.end("3")
        b.assert_idle()


async def test_references_against_the_order_do_not_deadlock() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=LANE)) as b:
        turn = await b.start([on("a", "1", depends_on=("3",)), on("a", "2"), on("a", "3")])
        for call_id in ("3", "1", "2"):
            assert stage.running == [call_id]
            await stage.end(call_id)
        assert reasons(turn.calls()) == ["OK"] * 3
        b.assert_idle()


@pytest.mark.parametrize(
    ("lane", "rest"), [(LANE, ["OK", "OK"]), (SKIP_REST, ["STOPPED", "STOPPED"])]
)
async def test_what_a_failure_means_for_the_rest_of_its_lane(lane: Lane, rest: list[str]) -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=lane)) as b:
        turn = await b.start([on("a", "1"), on("a", "2"), on("b", "3"), on("a", "4")])
        other = await b.start([on("a", "5")])
        await stage.end("2", "3", "4", "5")
        await stage.end("1", outcome=broken())

        first, second, third, fourth = reasons(turn.calls())
        assert (first, third) == ("TOOL_FAILED", "OK")
        assert [second, fourth] == rest
        assert reasons(other.calls()) == ["OK"]  # another batch is not concerned
        if rest[0] == "STOPPED":
            assert "@1" in failure_of(turn.calls()[1]).message
        b.assert_idle()


async def test_a_failure_before_the_key_is_known_skips_all_keys() -> None:
    stage = Stage()
    async with bench(
        bound("tool", stage, lane=SKIP_REST), bound("read", stage), bound("echo", echo)
    ) as b:
        turn = await b.start(
            [ToolCall("read", "read"), on("$ref:read", "1"), on("a", "2"), ToolCall("", "echo")]
        )
        await stage.end("read", outcome=broken())
        assert reasons(turn.calls()) == ["TOOL_FAILED", "DEPENDENCY_FAILED", "STOPPED", "OK"]
        b.assert_idle()


async def test_invalid_arguments_skip_the_rest_as_well() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    async with bench(bound("tool", echo, lane=SKIP_REST, input_schema=schema)) as b:
        invalid = ToolCall("", "tool", '{"key": "a", "n": "x"}')
        calls = await b.run([invalid, on("a"), on("b"), ToolCall("", "tool", "no JSON"), on("b")])
        assert reasons(calls) == [
            "ARGUMENTS_INVALID",
            "STOPPED",
            "OK",
            "ARGUMENTS_INVALID",
            "STOPPED",
        ]


async def test_stop_and_lanes_start_nothing_after_a_failure() -> None:
    stage = Stage()
    other = Lane("key:{from.id}")
    async with bench(bound("tool", stage, lane=LANE), bound("move", stage, lane=other)) as b:
        turn = await b.start(
            # The second one stands in the same lane, and its template is another one.
            [on("a", "1"), ToolCall("2", "move", '{"from": {"id": "a"}}'), on("a", "3")],
            on_failure=OnFailure.STOP,
        )
        await stage.end("1", outcome=broken())

        assert stage.started == ["1"]
        assert reasons(turn.calls()) == ["TOOL_FAILED", "STOPPED", "STOPPED"]
        b.assert_idle()


async def test_sequential_batches_keep_their_order_in_lanes() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=LANE)) as b:
        await b.start([on("a", "other")])
        turn = await b.start([on("a", "1"), on("b", "2"), on("a", "3")], mode=Mode.SEQUENTIAL)
        assert stage.running == ["other"]
        await stage.end("other")
        for call_id in ("1", "2", "3"):
            assert stage.running == [call_id]
            await stage.end(call_id)
        assert reasons(turn.calls()) == ["OK"] * 3
        b.assert_idle()


async def test_an_attempt_that_outlives_its_result_keeps_its_lane() -> None:
    stage = Stage(stubborn=True)
    async with bench(bound("tool", stage, lane=LANE, timeout_s=1.0)) as b:
        turn = await b.start([on("a", "1"), on("a", "2"), on("b", "3")])
        await stage.end("3")
        await b.clock.advance(1)
        assert stage.running == ["1"]
        later = await b.start([on("a", "4")])
        assert stage.running == ["1"]
        await stage.end("1")
        assert stage.running == ["2"]
        await stage.end("2", "4")

        assert reasons(turn.calls()) == ["TOOL_TIMEOUT", "OK", "OK"]
        assert reasons(later.calls()) == ["OK"]
        b.assert_idle()


async def test_who_waits_too_long_for_its_lane_leaves_it() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=LANE, queue_timeout_s=2.0)) as b:
        await b.start([on("a", "1")])
        late = await b.start([on("a", "2")])
        await b.clock.advance(1)
        third = await b.start([on("a", "3")])
        await b.clock.advance(1)
        assert reasons(late.calls()) == ["QUEUE_TIMEOUT"]
        assert failure_of(late.calls()[0]).state is ExecutionState.NOT_STARTED
        assert late.calls()[0].blocked_ns == {BlockCause.LANE: 2 * SECOND_NS}
        await stage.end("1")
        assert stage.running == ["3"]
        await stage.end("3")
        assert reasons(third.calls()) == ["OK"]
        b.assert_idle()


async def test_who_gets_its_lane_late_has_no_more_time_to_wait_for_room() -> None:
    stage = Stage()
    tools = (
        bound("tool", stage, lane=LANE, queue_timeout_s=5.0, max_concurrency=1),
        bound("free", stage, lane=LANE),
    )
    async with bench(*tools) as b:
        await b.start([on("a", "holds", "free"), on("busy", "busy")])
        turn = await b.start(
            [on("x", "first", "free"), on("a", "1"), on("b", "2", depends_on=("first",))]
        )
        await b.clock.advance(2)
        await stage.end("first")
        await b.clock.advance(1)
        await stage.end("holds")  # now both wait for room, and "2" came first
        await b.clock.advance(2)
        batch = next(batch for batch in b.engine._open if len(batch.calls) == 3)
        assert reasons([batch.calls[1]]) == ["QUEUE_TIMEOUT"]
        await stage.end("busy", "2")
        assert reasons(turn.calls()) == ["OK", "QUEUE_TIMEOUT", "OK"]
        b.assert_idle()


async def test_a_cancelled_batch_gives_its_place_and_its_lane_back() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=LANE)) as b:
        first = await b.start([on("a", "1")])
        waits = await b.start([on("a", "2")])
        third = await b.start([on("a", "3")])
        waits.task.cancel()
        await settle()
        assert stage.running == ["1"]
        first.task.cancel()
        await settle()
        assert stage.running == ["3"]
        await stage.end("3")
        assert reasons(third.calls()) == ["OK"]
        b.assert_idle()


async def test_a_lane_that_passes_to_a_call_of_a_cancelled_batch_goes_on() -> None:
    starts = Starts(clock := FakeClock())
    tools = (
        bound("tool", starts, lane=LANE, rate=per_second(), queue_timeout_s=99),
        bound("move", starts, lane=Lane("key:{from.id}"), rate=per_second(), queue_timeout_s=99),
    )
    async with bench(*tools, clock=clock) as b:
        await b.run([on("b"), ToolCall("", "move", '{"from": {"id": "c"}}')])  # spend the rates
        move = ToolCall("", "move", '{"from": {"id": "a"}}')
        cancelled = await b.start([on("a"), move])
        later = await b.start([on("a")])
        cancelled.task.cancel()
        await settle()
        assert b.engine.statistics().queued == 1
        await clock.advance(1)

        assert reasons(later.calls()) == ["OK"]
        assert starts.at_s == [0, 0, 1]
        b.assert_idle()


async def test_who_has_a_lane_and_waits_for_room_passes_it_on_when_it_leaves() -> None:
    stage = Stage()
    tools = (
        bound("tool", stage, lane=LANE, max_concurrency=1, queue_timeout_s=2.0),
        bound("free", stage, lane=LANE),
    )
    async with bench(*tools) as b:
        await b.start([on("busy", "busy")])
        late = await b.start([on("a", "1")])  # it has the lane, and no permit
        other = await b.start([on("a", "2", "free")])
        assert stage.running == ["busy"]
        await b.clock.advance(2)
        assert reasons(late.calls()) == ["QUEUE_TIMEOUT"]
        assert late.calls()[0].blocked_ns == {BlockCause.TOOL_LIMIT: 2 * SECOND_NS}
        assert stage.running == ["busy", "2"]
        await stage.end("2", "busy")
        assert reasons(other.calls()) == ["OK"]
        b.assert_idle()


async def test_calls_in_lanes_count_for_the_queue_of_their_tool() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=LANE, max_queue=3, max_concurrency=2)) as b:
        turns = [await b.start([on("a", str(n))]) for n in range(8)]
        refused = [turn for turn in turns if turn.done]
        # One runs, three may wait; the other permit is no use to this lane, but it counts.
        assert [reasons(turn.calls()) for turn in refused] == [["QUEUE_FULL"]] * 3
        await stage.end(*map(str, range(9)))
        assert b.engine.registry.tools["tool"].queue.count == 0
        assert reasons(await b.run([on("a", "8")])) == ["OK"]
        b.assert_idle()


async def test_thousands_that_fail_in_a_row_pass_the_lane_on() -> None:
    stage = Stage()
    # Who gets the lane finds that its turn at the rate would come too late.
    tool = bound("tool", stage, lane=LANE, rate=every(1_000))
    async with bench(tool, max_open_batches=9_999) as b:
        first = await b.start([on("a", "1")])
        batches = [b.engine.execute([on("a")], BatchOptions()) for _ in range(3_000)]
        tasks = [asyncio.create_task(batch) for batch in batches]
        await settle()
        assert b.engine.statistics().queued == 3_000
        await stage.end("1")

        assert all(task.done() for task in tasks)
        assert {reasons([task.result().calls[0]])[0] for task in tasks} == {"RATE_LIMITED"}
        assert first.done
        b.assert_idle()


async def test_a_retry_does_not_hold_its_lane_while_it_waits() -> None:
    stage = Stage()
    async with bench(
        bound("tool", stage, lane=LANE, retry=retry(2), **READ_ONLY), random=lambda: 0.5
    ) as b:
        turn = await b.start([on("a", "1"), on("a", "2")])
        other = await b.start([on("a", "3")])
        await stage.end("1", outcome=unavailable())
        assert stage.running == ["3"]  # the second one comes after the first one, not this one
        await b.clock.advance(0.5)
        assert stage.running == ["3"]
        await stage.end("3", "1", "2")
        assert reasons(turn.calls()) == ["OK", "OK"]
        assert stage.started == ["1", "3", "1", "2"]
        assert reasons(other.calls()) == ["OK"]
        assert (turn.calls()[0].blocked_ns or {})[BlockCause.BACKOFF] == SECOND_NS // 2
        b.assert_idle()


async def test_streams_take_lanes_at_the_seal() -> None:
    stage, watch = Stage(), Watch()
    async with bench(
        bound("tool", stage, lane=LANE, **READ_ONLY), bound("read", stage, **READ_ONLY)
    ) as b:
        batch = b.engine.open(BatchOptions(), watch)
        intake = StreamIntake(b.engine, batch)
        await intake.add(1, on("a", "2"))
        await intake.add(0, on("a", "1"))
        await intake.add(2, ToolCall("read", "read"))
        await intake.add(3, on("$ref:@3", "4"))
        await settle()
        assert stage.running == ["read"]
        await b.clock.advance(1)
        await intake.seal(4)
        await settle()
        assert stage.running == ["read", "1"]
        assert watch.queued[-2:] == [(1, BlockCause.LANE), (3, BlockCause.REFERENCE)]
        await b.clock.advance(1)
        await stage.end("1", "read", outcome="b")
        assert stage.running == ["2"]
        await stage.end("2")
        await stage.end("4")
        assert batch.done.done()
        assert batch.calls[1].blocked_ns == {BlockCause.SEAL: SECOND_NS, BlockCause.LANE: SECOND_NS}
        b.engine.close(batch)
        b.assert_idle()


async def test_a_call_cancelled_before_the_seal_skips_the_rest() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=SKIP_REST)) as b:
        batch = b.engine.open(BatchOptions())
        intake = StreamIntake(b.engine, batch)
        for index, key in enumerate(("a", "a", "b")):
            await intake.add(index, on(key, str(index)))
        intake.cancel(0)
        await intake.seal(3)
        await settle()
        await stage.end("2")
        assert reasons(list(batch.calls.values())) == ["CANCELLED", "STOPPED", "OK"]
        b.engine.close(batch)
        b.assert_idle()


async def test_an_abandoned_stream_leaves_no_lane_behind() -> None:
    stage = Stage()
    async with bench(bound("tool", stage, lane=LANE)) as b:
        batch = b.engine.open(BatchOptions())
        intake = StreamIntake(b.engine, batch)
        for index in range(3):
            await intake.add(index, on("a", str(index)))
        await intake.seal(3)
        await settle()
        intake.abandon("The model's stream broke off.")
        assert stage.running == ["0"]
        await stage.end("0")
        assert reasons(list(batch.calls.values())) == ["OK", "CANCELLED", "CANCELLED"]
        b.engine.close(batch)
        b.assert_idle()


async def test_tools_without_lanes_are_not_concerned() -> None:
    gate = Gate()
    async with bench(bound("tool", Stage(), lane=LANE), bound("plain", gate)) as b:
        await b.start([on("a", "1"), on("a", "2"), *calls_of("plain", 3)])
        assert gate.running.total() == 3
