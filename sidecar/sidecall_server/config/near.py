"""Finds what was meant."""

from collections.abc import Collection

_NEAR_PERCENT = 65


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`; did you mean NAME?` with the nearest of the known names; empty where none is near."""
    # Imported where something is wrong; a start that goes well needs none of it.
    from rapidfuzz import fuzz, process  # noqa: PLC0415

    near = process.extractOne(name, list(known), scorer=fuzz.ratio, score_cutoff=_NEAR_PERCENT)
    return f"; did you mean {near[0]}?" if near is not None else ""
