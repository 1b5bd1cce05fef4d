"""Cutting JSON: examples of what a model gets."""

import json
from typing import Any

import pytest

from sidecall_server.policy.budget import cut
from sidecall_server.policy.json_budget import cut_json, cut_result


def shortened(value: Any, max_bytes: int) -> Any:
    text = cut_result(json.dumps(value), max_bytes)
    assert len(text) <= max_bytes
    return json.loads(text)


def test_a_long_array_keeps_head_and_tail() -> None:
    assert shortened(list(range(1_000)), 80) == [
        *range(11),
        "... 984 of 1000 items left out",
        *range(995, 1_000),
    ]


def test_what_stands_beside_a_long_array_stays_whole() -> None:
    pages = {"total": 3_000, "items": [{"id": n} for n in range(3_000)], "next": "page-2"}
    cut_pages = shortened(pages, 500)
    assert (cut_pages["total"], cut_pages["next"]) == (3_000, "page-2")
    assert cut_pages["items"][0] == {"id": 0}
    assert cut_pages["items"][-1] == {"id": 2_999}
    marker = next(item for item in cut_pages["items"] if isinstance(item, str))
    assert marker == f"... {3_001 - len(cut_pages['items'])} of 3000 items left out"


def test_a_long_text_inside_keeps_head_and_tail() -> None:
    page = shortened({"title": "Oslo", "text": "BEGIN" + "x" * 10_000 + "END"}, 400)
    assert page["title"] == "Oslo"
    assert page["text"].startswith("BEGINx")
    assert page["text"].endswith("xEND")
    assert " of 10008 bytes cut " in page["text"]
    assert len(page["text"]) > 300


def test_a_few_large_items_are_all_kept_and_cut_alike() -> None:
    items = shortened(["a" * 5_000, "b" * 5_000, "c"], 2_000)
    assert [item[0] for item in items] == ["a", "b", "c"]
    assert len(items[0]) == len(items[1])
    assert len(items[0]) > 900


def test_a_large_object_says_how_many_keys_are_left_out() -> None:
    cut_map = shortened({f"k{n}": n for n in range(500)}, 120)
    assert cut_map["k0"] == 0
    assert cut_map["k499"] == 499
    assert cut_map["..."] == f"{501 - len(cut_map)} of 500 keys left out"


def test_a_key_that_looks_like_the_marker_stays() -> None:
    cut_map = shortened({"...": "mine", **{f"k{n}": n for n in range(500)}}, 120)
    assert cut_map["..."] == "mine"
    assert cut_map["...."].endswith("of 501 keys left out")


def test_space_goes_before_content() -> None:
    value = [{"a": [1, 2, 3], "b": None}] * 3
    text = json.dumps(value, indent=4)
    assert json.loads(cut_result(text, len(text) - 1)) == value


def test_large_numbers_stay_what_they_are() -> None:
    assert shortened([2**200, 1.5, *[0] * 1_000], 160)[:2] == [2**200, 1.5]


@pytest.mark.parametrize(
    "text",
    ["[1, 2, 3" * 100, '{"a": NaN}' + " " * 200, "[x] not done\n" * 50, '"quoted" and more ' * 30],
)
def test_what_only_looks_like_json_is_cut_as_text(text: str) -> None:
    assert cut_json(text, 100) is None
    assert cut_result(text, 100) == cut(text, 100)


@pytest.mark.parametrize("value", [list(range(1_000)), {"key": "x" * 500}, ["x" * 500]])
def test_a_budget_too_small_for_json_falls_back_to_text(value: Any) -> None:
    text = json.dumps(value)
    assert cut_json(text, 30) is None
    assert cut_result(text, 30) == cut(text, 30)


def test_deep_nesting_is_cut_within_bounds() -> None:
    value: Any = "x" * 100_000
    for _ in range(100):
        value = [value, 1]
    text = cut_result(json.dumps(value), 10_000)
    assert len(text) <= 10_000
    assert json.loads(text)[1] == 1


def test_json_that_is_too_large_to_read_is_cut_as_text() -> None:
    text = json.dumps(["x" * 1_000_000] * 9)
    assert cut_result(text, 1_000) == cut(text, 1_000)
