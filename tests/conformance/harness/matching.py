"""Compares what happened with what a case expects."""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

_MATCHERS = ("$any", "$match", "$json", "$one_of", "$at_most")
_MAX_DIFFERENCES = 8
_MAX_DIFF_LINES = 60


def without_nulls(value: Any) -> Any:
    """A copy in which no object has members that are null."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def differences(expected: Any, actual: Any, where: str, *, partly: bool = False) -> list[str]:
    """What differs, in words; nothing where all fits.

    Args:
        expected: May hold matchers.
        actual: What happened.
        where: Name of what is compared.
        partly: Whether objects may have members that are not expected.
    """
    expected, actual = without_nulls(expected), without_nulls(actual)
    found = list(_compare(expected, actual, where, partly))
    if not found:
        return []
    told = found[:_MAX_DIFFERENCES]
    if len(found) > len(told):
        told.append(f"and {len(found) - len(told)} more differences in {where}")
    if isinstance(expected, dict | list) and not partly:
        told += _diff(expected, actual, where)
    return told


def fits(expected: Any, actual: Any, *, partly: bool = False) -> bool:
    """Whether something is as expected."""
    return not differences(expected, actual, "", partly=partly)


def _compare(expected: Any, actual: Any, where: str, partly: bool) -> Iterator[str]:
    matcher = _matcher(expected)
    if matcher is not None:
        if not _matches(matcher, expected[matcher], actual):
            yield f"{where}: expected {_short(expected)}, got {_short(actual)}"
    elif isinstance(expected, dict) and isinstance(actual, dict):
        for key in expected.keys() | actual.keys():
            at = f"{where}.{key}"
            if key not in actual:
                yield f"{at}: expected {_short(expected[key])}, got nothing"
            elif key in expected:
                yield from _compare(expected[key], actual[key], at, partly)
            elif not partly:
                yield f"{at}: expected nothing, got {_short(actual[key])}"
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield f"{where}: expected {len(expected)} items, got {len(actual)}"
        for index, (one, other) in enumerate(zip(expected, actual, strict=False)):
            yield from _compare(one, other, f"{where}[{index}]", partly)
    elif isinstance(expected, bool) != isinstance(actual, bool) or expected != actual:
        yield f"{where}: expected {_short(expected)}, got {_short(actual)}"


def _matcher(expected: Any) -> str | None:
    if isinstance(expected, dict) and len(expected) == 1:
        (key,) = expected
        return key if key in _MATCHERS else None
    return None


def _matches(matcher: str, wanted: Any, actual: Any) -> bool:
    match matcher:
        case "$match":
            return isinstance(actual, str) and re.fullmatch(wanted, actual, re.DOTALL) is not None
        case "$json":
            return isinstance(actual, str) and _fits_json(wanted, actual)
        case "$one_of":
            return any(fits(each, actual) for each in wanted)
        case "$at_most":
            return isinstance(actual, int | float) and 0 <= actual <= wanted
        case _:
            return True


def _fits_json(wanted: Any, text: str) -> bool:
    try:
        return fits(wanted, json.loads(text))
    except ValueError:
        return False


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-80:]}"


def _diff(expected: Any, actual: Any, where: str) -> list[str]:
    def lines(value: Any) -> list[str]:
        return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True).splitlines()

    diff = difflib.unified_diff(
        lines(expected), lines(actual), f"{where} (expected)", f"{where} (actual)", "", "", 2, ""
    )
    return list(diff)[:_MAX_DIFF_LINES]
