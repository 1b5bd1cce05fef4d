"""Every promise, over random batches on one sidecar through real channels."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.conftest import World
from tests.support.gate import WAIT_S
from tests.support.promises import check_batch, check_tool_limits, reason_of
from tests.support.random_batches import Link, PlannedBatch, PlannedCall, batches
from tests.support.recorded_tools import LIMITS

SINGLE_EXAMPLES = 120
CONCURRENT_EXAMPLES = 60


@given(batch=batches())
@settings(max_examples=SINGLE_EXAMPLES)
def test_one_batch(world: World, batch: PlannedBatch) -> None:
    async def run() -> None:
        response = await world.stubs[0].ExecuteBatch(batch.request, timeout=WAIT_S)
        check_batch(batch, response.results, world.recorder)
        check_tool_limits(world.recorder)

    world.run(run())


@given(several=st.lists(st.tuples(batches(max_calls=8), st.integers(0, 2)), min_size=2, max_size=5))
@settings(max_examples=CONCURRENT_EXAMPLES)
def test_several_batches_at_once(world: World, several: list[tuple[PlannedBatch, int]]) -> None:
    async def run() -> None:
        responses = await asyncio.gather(
            *(world.stubs[n].ExecuteBatch(batch.request, timeout=WAIT_S) for batch, n in several)
        )
        for (batch, _), response in zip(several, responses, strict=True):
            check_batch(batch, response.results, world.recorder)
        check_tool_limits(world.recorder)

    world.run(run())


@given(
    count=st.integers(1, 60),
    tool=st.sampled_from(["text", "write", "thread", "json"]),
    limit=st.integers(0, 5),
)
@settings(max_examples=25)
def test_many_calls_of_one_tool(world: World, count: int, tool: str, limit: int) -> None:
    batch = PlannedBatch(
        [PlannedCall("", tool, n % 2) for n in range(count)], max_concurrency=limit
    )

    async def run() -> None:
        response = await world.stubs[0].ExecuteBatch(batch.request, timeout=WAIT_S)
        check_batch(batch, response.results, world.recorder)
        check_tool_limits(world.recorder)

    world.run(run())


@given(sizes=st.tuples(st.integers(1, 10), st.integers(30, 120)), delay_ms=st.sampled_from([0, 1]))
@settings(max_examples=15)
def test_a_small_batch_takes_turns_with_a_large_one(
    world: World, sizes: tuple[int, int], delay_ms: int
) -> None:
    """Counted in starts: how long anything takes does not matter."""
    small, large = (PlannedBatch([PlannedCall("", "gated", delay_ms)] * size) for size in sizes)

    async def run() -> None:
        first = world.stubs[0].ExecuteBatch(large.request, timeout=WAIT_S)
        await world.serving.until(lambda s: s.queued == sizes[1] - LIMITS["gated"])
        second = world.stubs[1].ExecuteBatch(small.request, timeout=WAIT_S)
        await world.serving.until(lambda s: s.queued == sum(sizes) - LIMITS["gated"])
        world.recorder.gate.set()
        check_batch(small, (await second).results, world.recorder)
        check_batch(large, (await first).results, world.recorder)
        check_tool_limits(world.recorder)

    world.run(run())
    starts = [mark.key for mark in world.recorder.marks if mark.what == "start"]
    last = max(starts.index(key) for key in small.keys)
    of_the_large = len(set(starts[: last + 1]) - set(small.keys))
    # Those that ran before, then one turn each; permits that are given back together may be
    # handed out in any order.
    assert of_the_large <= LIMITS["gated"] + len(small.keys) + 2


@given(depth=st.integers(1, 40), fails_at=st.integers(0, 60))
@settings(max_examples=25)
def test_a_chain_breaks_where_it_fails(world: World, depth: int, fails_at: int) -> None:
    calls = [
        PlannedCall(f"c{n}", "fails" if n == fails_at else "text", 0,
                    (Link(f"c{n - 1}", "whole"),) if n else ())
        for n in range(depth)
    ]  # fmt: skip
    batch = PlannedBatch(calls)

    async def run() -> list[str]:
        response = await world.stubs[0].ExecuteBatch(batch.request, timeout=WAIT_S)
        check_batch(batch, response.results, world.recorder)
        return [reason_of(result) for result in response.results]

    reasons = world.run(run())
    assert reasons.count("OK") == min(depth, fails_at)
