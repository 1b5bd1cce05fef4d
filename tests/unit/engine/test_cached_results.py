"""Results that answer later calls."""

from dataclasses import replace
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import ANY_OBJECT, Bench, bench, bound, echo, reasons, text_of
from tests.support.runs import CACHE, COALESCE, Runs, read, shared

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.outcome import (
    BlobPart,
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    Success,
    TextPart,
)
from sidecall_server.core.tool import Sharing
from sidecall_server.engine.stream import StreamIntake

FOR_ALL = replace(CACHE, all_callers=True)
BY_TENANT = replace(CACHE, context_keys=("tenant",))
BOTH = replace(CACHE, coalesce=True)


async def first_result(
    b: Bench, runs: Runs, outcome: str | Outcome = "one", **options: Any
) -> None:
    """Has a first call make a result."""
    await b.start([read()], **options)
    await runs[len(runs) - 1].finish(outcome)


async def test_a_result_answers_identical_calls_for_its_time() -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=CACHE)) as b:
        await first_result(b, runs)
        await b.clock.advance(59.9)
        (hit,) = await b.run([read()])
        assert text_of(hit) == "one"
        assert (hit.coalesced, hit.attempt, hit.blocked_ns) == (True, 0, None)
        await b.clock.advance(0.1)
        miss = await b.start([read()])
        assert len(runs) == 2
        await runs[1].finish("two")

        assert text_of(miss.calls()[0]) == "two"
        assert not miss.calls()[0].coalesced
        b.assert_idle()


async def test_its_time_begins_when_it_is_made() -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=CACHE)) as b:
        await b.start([read()])
        await b.clock.advance(50)
        await runs[0].finish("one")
        await b.clock.advance(50)

        assert text_of((await b.run([read()]))[0]) == "one"


@pytest.mark.parametrize(
    ("sharing", "one", "other", "is_hit"),
    [
        (CACHE, {"identity": "ann"}, {"identity": "ann"}, True),
        (CACHE, {"identity": "ann"}, {"identity": "bob"}, False),
        (CACHE, {}, {"identity": "bob"}, False),
        (FOR_ALL, {"identity": "ann"}, {"identity": "bob"}, True),
        (CACHE, {"context": {"tenant": "x"}}, {"context": {"tenant": "y"}}, True),
        (BY_TENANT, {"context": {"tenant": "x"}}, {"context": {"tenant": "y"}}, False),
        (BY_TENANT, {"context": {"tenant": "x"}}, {"context": {"tenant": "x", "a": "b"}}, True),
    ],
)
async def test_whose_calls_it_answers(
    sharing: Sharing, one: dict[str, Any], other: dict[str, Any], is_hit: bool
) -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=sharing)) as b:
        await first_result(b, runs, **one)
        await b.start([read()], **other)
        assert len(runs) == (1 if is_hit else 2)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(Reason.TOOL_FAILED, "no", ExecutionState.COMPLETED),
        Failure(Reason.TOOL_CRASHED, "no", ExecutionState.UNKNOWN),
        Failure(Reason.RESULT_TOO_LARGE, "no", ExecutionState.COMPLETED),
    ],
)
async def test_failures_are_not_kept(failure: Failure) -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=CACHE)) as b:
        await first_result(b, runs, failure)
        await b.start([read()])
        assert len(runs) == 2


async def test_without_coalescing_identical_calls_run_side_by_side() -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=CACHE)) as b:
        turn = await b.start([read()] * 2)
        assert len(runs) == 2
        assert b.engine.statistics().shared_runs == 0
        await runs[0].finish("one")
        await runs[1].finish("two")
        assert [text_of(call) for call in turn.calls()] == ["one", "two"]
        b.assert_idle()


async def test_with_coalescing_the_shared_result_is_kept() -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=BOTH)) as b:
        await b.start([read()] * 3)
        await runs[0].finish("one")

        assert text_of((await b.run([read()]))[0]) == "one"
        assert b.engine.cache.statistics().entries == 1
        b.assert_idle()


async def test_a_run_that_outlives_its_leader_is_kept() -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=BOTH)) as b:
        leader, _ = await b.start([read()]), await b.start([read()])
        leader.task.cancel()
        await settle()
        await runs[0].finish("one")

        assert text_of((await b.run([read()]))[0]) == "one"


async def test_coalescing_alone_keeps_nothing() -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=COALESCE)) as b:
        await first_result(b, runs)
        assert b.engine.cache.statistics().entries == 0


async def test_parts_are_kept() -> None:
    runs = Runs()
    parts = (TextPart("a"), BlobPart("image/png", b"\x89PNG", "a.png"))
    async with bench(shared(runs, sharing=CACHE)) as b:
        await first_result(b, runs, Success("a\n[a.png]", parts=parts))
        (hit,) = await b.run([read()])

        assert isinstance(hit.outcome, Success)
        assert hit.outcome.parts == parts


async def test_what_a_call_makes_of_a_result_does_not_change_it() -> None:
    runs = Runs()

    async def spoil(call: Call) -> str:
        call.arguments["value"]["days"].append(9)
        return "spoilt"

    async with bench(shared(runs, sharing=CACHE), bound("spoil", spoil)) as b:
        await first_result(b, runs, Success('{"days": [1]}', is_json=True))
        spoilt = ToolCall("", "spoil", '{"value": "$ref:@1"}')
        part = ToolCall("", "spoil", '{"value": {"days": "$ref:@1#/days"}}')
        calls = await b.run([read(), spoilt, part, read()])

        assert reasons(calls) == ["OK"] * 4
        assert [text_of(calls[0]), text_of(calls[3])] == ['{"days": [1]}'] * 2


async def test_a_tool_that_changes_its_arguments_does_not_change_the_key() -> None:
    runs = Runs()
    schema = {**ANY_OBJECT, "properties": {"at": {"default": {"unit": "C"}}}}
    async with bench(shared(runs, sharing=CACHE, input_schema=schema)) as b:
        await b.start([read()])
        runs[0].call.arguments["at"]["unit"] = "F"
        await runs[0].finish("one")

        assert text_of((await b.run([read('{"at": {"unit": "C"}}')]))[0]) == "one"


async def test_it_is_bounded() -> None:
    async with bench(bound("read", echo, sharing=CACHE), max_cache_bytes=20_000) as b:
        for number in range(50):
            await b.run([read(f'{{"text": "{"x" * 1_000}", "n": {number}}}')])

        statistics = b.engine.cache.statistics()
        assert statistics.bytes <= 20_000
        assert 0 < statistics.entries < 50
        assert statistics.evicted > 0


async def test_a_hit_needs_no_permit_and_no_place() -> None:
    runs = Runs()
    tool = shared(runs, sharing=CACHE, max_concurrency=1, max_queue=0)
    async with bench(tool) as b:
        await first_result(b, runs)
        await b.start([read('{"a": 1}')])

        assert text_of((await b.run([read()]))[0]) == "one"
        assert reasons(await b.run([read('{"b": 1}')])) == ["QUEUE_FULL"]


async def test_another_tool_of_that_name_makes_its_own_results() -> None:
    old, new = Runs(), Runs()
    kept = bound("other", echo, sharing=CACHE)
    async with bench(shared(old, sharing=BOTH), kept) as b:
        await first_result(b, old, "old")
        await b.run([ToolCall("", "other")])
        late = await b.start([read('{"late": 1}')])
        b.engine.swap([shared(new, sharing=BOTH), kept], {})
        turn = await b.start([read(), read('{"late": 1}')])
        assert len(new) == 2
        await old[1].finish("old and late")
        await new[0].finish("new")
        await new[1].finish("new, not late")

        assert [text_of(call) for call in turn.calls()] == ["new", "new, not late"]
        assert text_of(late.calls()[0]) == "old and late"
        hits = await b.run([read(), read('{"late": 1}'), ToolCall("", "other")])
        assert [text_of(call) for call in hits] == ["new", "new, not late", "done"]
        assert [call.coalesced for call in hits] == [True] * 3
        b.assert_idle()


@pytest.mark.parametrize("sharing", [CACHE, BOTH])
async def test_streamed_calls_start_early_or_are_answered_early(sharing: Sharing) -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=sharing)) as b:
        await first_result(b, runs)
        batch = b.engine.open(BatchOptions())
        intake = StreamIntake(b.engine, batch)
        await intake.add(0, read())
        await intake.add(1, read('{"a": 1}'))
        await settle()
        assert batch.calls[0].outcome is not None
        assert len(runs) == 2
        intake.abandon("gone")
        await runs[1].finish("two")

        assert reasons(list(batch.calls.values())) == ["OK", "OK"]
        assert batch.done.done()
        b.engine.close(batch)
        b.assert_idle()
