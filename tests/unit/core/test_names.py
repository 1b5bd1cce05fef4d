"""Which call a reference means."""

import pytest

from sidecall_server.core.references import Names, UnresolvedError

CALLS = [("call_a", "weather"), ("call_b", "time"), ("", "time"), ("news", "other"), ("x", "news")]


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("@1", 0),
        ("@5", 4),
        ("@05", 4),
        ("call_b", 1),
        ("weather", 0),
        ("news", 3),  # an id comes before a tool's name
        ("other", 3),
    ],
)
def test_an_id_is_tried_in_order(name: str, position: int) -> None:
    assert Names(CALLS).find(name) == position


@pytest.mark.parametrize("name", ["@0", "@6", "@00000000000000000001", "@" + "9" * 5000])
def test_a_position_outside_the_turn_means_nothing(name: str) -> None:
    with pytest.raises(UnresolvedError, match="this turn has 5 calls"):
        Names(CALLS).find(name)


@pytest.mark.parametrize("name", ["@", "@x", "@-1", "@1.0", "@²", "@\u0661", "", "Weather", "call"])
def test_what_is_neither_position_nor_id_nor_tool_means_nothing(name: str) -> None:
    with pytest.raises(UnresolvedError, match="neither the id of a call"):
        Names(CALLS).find(name)


def test_a_position_comes_before_an_id_that_looks_like_one() -> None:
    assert Names([("@2", "a"), ("@1", "b")]).find("@1") == 0


def test_a_repeated_id_is_an_error_even_where_a_tool_has_that_name() -> None:
    names = Names([("same", "a"), ("same", "b"), ("same", "c"), ("", "same")])

    with pytest.raises(UnresolvedError, match="several calls have the id 'same'"):
        names.find("same")
    assert names.find("@3") == 2


def test_empty_ids_are_not_repeated_ids() -> None:
    names = Names([("", "a"), ("", "b")])

    assert names.find("b") == 1


def test_a_tool_that_is_called_twice_is_no_name() -> None:
    with pytest.raises(UnresolvedError, match="'time' is called several times"):
        Names(CALLS).find("time")


def test_calls_may_be_added_in_any_order() -> None:
    names = Names()
    names.add(2, "c", "t")
    names.add(0, "a", "t")

    assert (names.find("@3"), names.find("a"), names.position("unknown")) == (2, 0, None)
