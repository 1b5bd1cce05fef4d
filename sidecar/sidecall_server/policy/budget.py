"""Result budgets: what does not fit is cut, the largest first."""

from collections.abc import Sequence

_MARKER = "\n[... {cut} of {size} bytes cut ...]\n"
MARKER_BYTES = 64
"""Bytes that the marker takes at most."""


def utf8_bytes(text: str) -> int:
    """What a text takes as UTF-8, lone surrogates escaped."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "backslashreplace"))


def cap_for(sizes: Sequence[int], budget: int) -> int | None:
    """The size to which each of several texts may be kept so that all fit a budget.

    Args:
        sizes: Sizes in bytes.
        budget: Bytes that they may take together.

    Returns:
        The cap in bytes, or None where nothing must be cut. Texts below the cap stay
        whole: the largest are cut first, and to the same size.
    """
    left = budget
    if sum(sizes) <= left:
        return None
    remaining = len(sizes)
    for size in sorted(sizes):
        if size * remaining > left:
            return max(0, left // remaining)
        left -= size
        remaining -= 1
    return None


def cut(text: str, max_bytes: int) -> str:
    """Keeps head and tail of a text, with a marker between them that says what is missing.

    Args:
        text: The text.
        max_bytes: Bytes of UTF-8 that it may take; the marker alone where that is less.
    """
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= max_bytes:
        return text
    keep = max(0, max_bytes - MARKER_BYTES)
    head, tail = keep - keep // 3, keep // 3
    marker = _MARKER.format(cut=len(data) - keep, size=len(data))
    start = data[:head].decode("utf-8", "ignore")
    end = data[len(data) - tail :].decode("utf-8", "ignore") if tail else ""
    return start + marker + end
