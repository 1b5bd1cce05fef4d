"""JSON that is cut to a budget: it parses, fits, and is a part of what it was."""

import json
import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sidecall_server.policy.budget import MARKER_BYTES, cut
from sidecall_server.policy.json_budget import cut_json, cut_result

TEXT = st.text(max_size=150)
LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e9, 1e9) | TEXT
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=25) | st.dictionaries(TEXT, inner, max_size=25),
    max_leaves=60,
)
CONTAINERS = st.lists(VALUES, max_size=25) | st.dictionaries(TEXT, VALUES, max_size=25)
BUDGETS = st.integers(0, 3_000)

_MARKERS = r"\n\[\.\.\. \d+ of \d+ bytes cut \.\.\.\]\n|\[\.\.\.\]"
_CUT_TEXT = re.compile(rf"(.*)(?:{_MARKERS})(.*)", re.DOTALL)
_ITEMS = re.compile(r"\.\.\. (\d+) of (\d+) items left out")
_KEYS = re.compile(r"(\d+) of (\d+) keys left out")


def is_part_of(part: Any, whole: Any) -> bool:
    """Whether a value is another one, or that with things left out as it says."""
    if isinstance(part, str) and isinstance(whole, str):
        return part == whole or _is_cut_text(part, whole)
    if isinstance(part, list) and isinstance(whole, list):
        return part == whole or _is_part_of_array(part, whole)
    if isinstance(part, dict) and isinstance(whole, dict):
        return _is_part_of_object(part, whole)
    return type(part) is type(whole) and part == whole


def _is_cut_text(part: str, whole: str) -> bool:
    found = _CUT_TEXT.fullmatch(part)
    return found is not None and whole.startswith(found[1]) and whole.endswith(found[2])


def _is_part_of_array(part: list[Any], whole: list[Any]) -> bool:
    if len(part) == len(whole) and all(map(is_part_of, part, whole)):
        return True
    for place, item in enumerate(part):
        marker = _ITEMS.fullmatch(item) if isinstance(item, str) else None
        if marker is None:
            continue
        kept = [*part[:place], *part[place + 1 :]]
        counts = (int(marker[1]), int(marker[2]))
        if counts == (len(whole) - len(kept), len(whole)) and _in_order(kept, whole):
            return all(map(is_part_of, part[:place], whole))
    return False


def _in_order(kept: list[Any], whole: list[Any]) -> bool:
    """Whether items are parts of others in the same order; from the end, each as late as can be."""
    place = len(whole)
    for item in reversed(kept):
        place -= 1
        while place >= 0 and not is_part_of(item, whole[place]):
            place -= 1
        if place < 0:
            return False
    return True


def _is_part_of_object(part: dict[str, Any], whole: dict[str, Any]) -> bool:
    markers = set(part) - set(whole)
    kept = [key for key in part if key in whole]
    if kept != [key for key in whole if key in part]:
        return False
    if not all(is_part_of(part[key], whole[key]) for key in kept):
        return False
    if not markers:
        return len(kept) == len(whole)
    found = _KEYS.fullmatch(str(part[markers.pop()]))
    return not markers and found is not None and int(found[1]) == len(whole) - len(kept)


@given(CONTAINERS, BUDGETS, st.sampled_from([None, 2]))
@example([1.5] * 200, 60, None)
@example({"a": "\x00" * 1_000, "b": '"' * 1_000}, 300, None)
@example({"...": 1, "a": ["x" * 500] * 3}, 200, None)
def test_what_is_cut_is_a_part_that_parses_and_fits(
    value: Any, max_bytes: int, indent: int | None
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    shortened = cut_json(text, max_bytes)
    if shortened is not None:
        assert len(shortened.encode()) <= max_bytes
        assert is_part_of(json.loads(shortened), value)
    result = cut_result(text, max_bytes)
    if len(text.encode()) <= max_bytes:
        assert result == text
    else:
        assert result == (cut(text, max_bytes) if shortened is None else shortened)
        assert len(result.encode()) <= max(max_bytes, MARKER_BYTES)


@given(st.text(max_size=500), BUDGETS)
def test_any_text_fits(text: str, max_bytes: int) -> None:
    assert len(cut_result(text, max_bytes).encode()) <= max(max_bytes, MARKER_BYTES)


@given(st.lists(LEAVES, min_size=30, max_size=300), st.integers(1_500, 3_000))
def test_long_arrays_keep_their_first_and_last_items(items: list[Any], max_bytes: int) -> None:
    shortened = cut_json(json.dumps(items, ensure_ascii=False), max_bytes)
    assert shortened is not None
    kept = json.loads(shortened)
    assert is_part_of(kept[0], items[0])
    assert is_part_of(kept[-1], items[-1])


@given(CONTAINERS, BUDGETS)
def test_the_same_comes_out_each_time(value: Any, max_bytes: int) -> None:
    text = json.dumps(value)
    assert cut_result(text, max_bytes) == cut_result(text, max_bytes)
