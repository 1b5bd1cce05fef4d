"""Lanes: emitted order wherever it closes no cycle, and never a deadlock."""

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecall_server.core.call import Mode
from sidecall_server.core.cycles import cyclic
from sidecall_server.core.lane_order import LaneOrder
from sidecall_server.core.plan import Plan

Member = tuple[str, str | None]
"""Template and key of a call; no key where it waits for a result."""


@st.composite
def laned(draw: st.DrawFn) -> tuple[dict[int, list[int]], list[Member | None]]:
    """References of a batch without cycles, and the lanes of its calls."""
    count = draw(st.integers(1, 9))
    rank = draw(st.permutations(range(count)))
    pairs = draw(st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), max_size=8))
    edges: dict[int, list[int]] = {}
    for waiting, target in pairs:
        if rank[target] < rank[waiting] and target not in edges.get(waiting, ()):
            edges.setdefault(waiting, []).append(target)
    key = st.sampled_from(["a", "b", None])
    member = st.none() | st.tuples(st.sampled_from(["s", "t"]), key)
    return edges, draw(st.lists(member, min_size=count, max_size=count))


def ordered(edges: dict[int, list[int]], lanes: Sequence[Member | None]) -> dict[int, list[int]]:
    order = LaneOrder(len(lanes), edges)
    for _ in order.prepare():
        pass
    found = {i: order.add(i, *lane) for i, lane in enumerate(lanes) if lane is not None}
    return {index: after for index, after in found.items() if after}


def closure(count: int, *graphs: Mapping[int, Sequence[int]]) -> list[set[int]]:
    """What each call waits for, directly or not."""
    reached: list[set[int]] = []
    for start in range(count):
        seen: set[int] = set()
        todo = [start]
        while todo:
            index = todo.pop()
            for target in [t for graph in graphs for t in graph.get(index, ())]:
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        reached.append(seen)
    return reached


def share_a_lane(first: Member | None, second: Member | None) -> bool:
    if first is None or second is None or first[0] != second[0]:
        return False
    return None in (first[1], second[1]) or first[1] == second[1]


def every_pair(edges: dict[int, list[int]], lanes: Sequence[Member | None]) -> dict[int, list[int]]:
    """The definition: each pair of a lane, unless it closes a cycle with what is there."""
    order: dict[int, list[int]] = {}
    for later, lane in enumerate(lanes):
        for earlier in range(later):
            if share_a_lane(lanes[earlier], lane):
                reached = closure(len(lanes), edges, order)
                if later not in reached[earlier]:
                    order.setdefault(later, []).append(earlier)
    return order


@given(batch=laned())
@settings(max_examples=800)
def test_the_order_is_that_of_the_definition(
    batch: tuple[dict[int, list[int]], list[Member | None]],
) -> None:
    edges, lanes = batch
    count = len(lanes)
    found = closure(count, edges, ordered(edges, lanes))
    expected = closure(count, edges, every_pair(edges, lanes))
    assert not any(index in reached for index, reached in enumerate(found))
    for later in range(count):
        for earlier in range(later):
            if share_a_lane(lanes[earlier], lanes[later]):
                assert (earlier in found[later]) == (earlier in expected[later])


@given(batch=laned(), mode=st.sampled_from(Mode), fails=st.sets(st.integers(0, 8)))
@settings(max_examples=300)
def test_every_call_becomes_final(
    batch: tuple[dict[int, list[int]], list[Member | None]], mode: Mode, fails: set[int]
) -> None:
    edges, lanes = batch
    order = ordered(edges, lanes)
    assert not cyclic(edges)
    plan = Plan(mode)
    step = plan.add_all(len(lanes), edges, order)
    final: list[int] = []
    running = list(step.ready)
    while running:
        index = running.pop(0)
        for predecessor in order.get(index, ()):
            assert predecessor in final
        following = plan.finish(index, index not in fails)
        final.append(index)
        if following is not None:
            final += [failed for failed, _ in following.failed_dependency]
            running += following.ready
    assert sorted(final) == list(range(len(lanes)))
