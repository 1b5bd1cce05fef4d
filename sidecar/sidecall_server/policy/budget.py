"""Result budgets: what does not fit is cut, the largest first."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

_MARKER = "\n[... {cut} of {size} bytes cut ...]\n"
MARKER_BYTES = 64
"""Bytes that the marker takes at most."""

USEFUL_BYTES = 256
"""What of a text should be kept at least: less says little."""

_SHORT_BYTES = 512
_SHORT_MARKER = "[...]"
"""Stands in short texts, of which the other one would take too much."""


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


class Sizes:
    """Sizes in bytes, arranged so that caps for the smallest of them are found quickly."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self._ascending = sorted(sizes)
        self._sums = list(accumulate(self._ascending, initial=0))

    def largest(self, count: int) -> int:
        """The largest of so many of the smallest; 0 for none."""
        return self._ascending[count - 1] if count else 0

    def capped(self, cap: int, count: int) -> int:
        """What so many of the smallest take together if each keeps at most a cap."""
        whole = bisect_right(self._ascending, cap, 0, count)
        return self._sums[whole] + (count - whole) * cap


def common_cap(kept: Sequence[tuple[Sizes, int]], budget: int) -> int | None:
    """As `cap_for`, for several lots of sizes, of each of which only the smallest count.

    Args:
        kept: The lots, each with how many of its sizes count.
        budget: Bytes that they may take together.
    """

    def total(cap: int) -> int:
        return sum(sizes.capped(cap, count) for sizes, count in kept)

    largest = max(sizes.largest(count) for sizes, count in kept)
    if total(largest) <= budget:
        return None
    return bisect_right(range(largest + 1), budget, key=total) - 1


def cut(text: str, max_bytes: int) -> str:
    """Keeps head and tail of a text, with a marker between them that says what is missing.

    Args:
        text: The text.
        max_bytes: Bytes of UTF-8 that it may take; the marker alone where that is less.
    """
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= max_bytes:
        return text
    keep, marker = max_bytes - len(_SHORT_MARKER), _SHORT_MARKER
    if len(data) > _SHORT_BYTES or max_bytes < MARKER_BYTES:
        keep = max(0, max_bytes - MARKER_BYTES)
        marker = _MARKER.format(cut=len(data) - keep, size=len(data))
    head, tail = keep - keep // 3, keep // 3
    start = data[:head].decode("utf-8", "ignore")
    end = data[len(data) - tail :].decode("utf-8", "ignore") if tail else ""
    return start + marker + end


def begin(text: str, max_bytes: int) -> str:
    """Keeps the head of a text that is repeated elsewhere, in at most so many bytes."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= max_bytes:
        return text
    return data[: max(0, max_bytes - 3)].decode("utf-8", "ignore") + "..."
