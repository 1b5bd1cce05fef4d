"""Which calls wait for themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.core.cycles import cyclic

SIZE = 10_000

edges_strategy = st.dictionaries(
    st.integers(0, 9), st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=10
)


@pytest.mark.parametrize(
    ("edges", "members"),
    [
        ({}, set()),
        ({1: [0], 2: [0, 1]}, set()),
        ({0: [1], 1: [2]}, set()),
        ({0: [0]}, {0}),
        ({0: [1], 1: [0]}, {0, 1}),
        ({0: [1], 1: [0], 2: [0], 3: [2]}, {0, 1}),
        ({0: [1], 1: [2], 2: [0], 3: [4], 4: [3]}, {0, 1, 2, 3, 4}),
        ({0: [1, 2], 1: [3], 2: [3], 3: [0]}, {0, 1, 2, 3}),
    ],
)
def test_only_the_calls_on_a_cycle_are_found(
    edges: dict[int, list[int]], members: set[int]
) -> None:
    assert cyclic(edges) == members


@given(edges_strategy)
def test_a_call_is_on_a_cycle_exactly_where_it_can_be_reached_from_itself(
    edges: dict[int, list[int]],
) -> None:
    def reaches_itself(start: int) -> bool:
        seen: set[int] = set()
        todo = list(edges.get(start, ()))
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo.extend(edges.get(node, ()))
        return start in seen

    assert cyclic(edges) == {node for node in range(10) if reaches_itself(node)}


def test_a_chain_of_ten_thousand_calls_that_ends_in_a_cycle() -> None:
    edges = {index: [index + 1] for index in range(SIZE)} | {SIZE: [SIZE - 1]}

    assert cyclic(edges) == {SIZE - 1, SIZE}


def test_a_cycle_of_ten_thousand_calls() -> None:
    edges = {index: [(index + 1) % SIZE] for index in range(SIZE)}

    assert cyclic(edges) == set(range(SIZE))
