"""Cutting results to a budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.policy.budget import MARKER_BYTES, Sizes, cap_for, common_cap, cut

sizes_and_budget = st.tuples(st.lists(st.integers(0, 5_000), max_size=30), st.integers(0, 60_000))


@given(sizes_and_budget)
def test_what_is_kept_fits_and_nothing_more_is_cut_than_must_be(
    case: tuple[list[int], int],
) -> None:
    sizes, budget = case
    cap = cap_for(sizes, budget)
    if cap is None:
        assert sum(sizes) <= budget
        return
    assert sum(sizes) > budget
    assert sum(min(size, cap) for size in sizes) <= budget
    assert sum(min(size, cap + 1) for size in sizes) > budget


@given(sizes_and_budget, st.lists(st.integers(0, 5_000), max_size=30), st.data())
def test_the_cap_of_several_lots_is_that_of_what_counts_of_them(
    case: tuple[list[int], int], others: list[int], data: st.DataObject
) -> None:
    sizes, budget = case
    count = data.draw(st.integers(0, len(others)))
    kept = (Sizes(sizes), len(sizes)), (Sizes(others), count)

    assert common_cap(kept, budget) == cap_for([*sizes, *sorted(others)[:count]], budget)


@pytest.mark.parametrize(
    ("sizes", "budget", "cap"),
    [
        ([], 0, None),
        ([10], 10, None),
        ([11], 10, 10),
        ([1, 2, 100], 50, 47),
        ([100, 100, 1], 51, 25),
        ([5, 5], 0, 0),
        ([0, 0], 0, None),
    ],
)
def test_the_largest_are_cut_first_and_to_the_same_size(
    sizes: list[int], budget: int, cap: int | None
) -> None:
    assert cap_for(sizes, budget) == cap


@given(st.text(max_size=400), st.integers(0, 600))
def test_cut_text_fits_and_can_be_encoded(text: str, max_bytes: int) -> None:
    shortened = cut(text, max_bytes)

    if len(text.encode("utf-8", "backslashreplace")) <= max_bytes:
        assert shortened == text
    else:
        assert len(shortened.encode()) <= max(max_bytes, MARKER_BYTES)
        assert "bytes cut" in shortened or "[...]" in shortened


@pytest.mark.parametrize("character", ["a", "é", "€", "😀"])
def test_head_and_tail_are_kept_whole(character: str) -> None:
    text = "HEAD" + character * 10_000 + "TAIL"
    shortened = cut(text, 1_000)

    head, _, tail = shortened.partition("\n[... ")
    assert head.startswith("HEAD")
    assert tail.endswith("TAIL")
    assert set(head.removeprefix("HEAD")) == {character}
    assert 900 < len(shortened.encode()) <= 1_000
    size = len(text.encode())
    assert f" of {size} bytes cut ..." in shortened


def test_the_marker_is_left_where_nothing_fits() -> None:
    assert cut("x" * 9_999_999, 0) == "\n[... 9999999 of 9999999 bytes cut ...]\n"


def test_little_room_is_not_spent_on_the_marker() -> None:
    text = "Not run: it depends on the call @1 of 'wire', which has no result (APPROVAL_REQUIRED)."
    assert cut(text, 80) == (
        "Not run: it depends on the call @1 of 'wire', whic[...]sult (APPROVAL_REQUIRED)."
    )
    assert len(cut("ä" * 99, 80).encode()) <= 80
