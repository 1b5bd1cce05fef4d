"""Cutting JSON to a budget so that it stays JSON.

Long texts keep head and tail, as any text does; long arrays and objects keep their first
and last entries, and one more that says how many were left out. What is kept shares the
budget: the largest is cut first, by the same rules.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from sidecall_server.policy.budget import cap_for, cut, utf8_bytes

_MAX_BYTES = 8 * 1024 * 1024
"""JSON above this is cut as text: reading it keeps the event loop for about 20 ms per MiB."""

_MAX_DEPTH = 16
"""Nesting below which a value that does not fit is left out: each level is written once
more to learn its size."""

_BEGINS_LIKE_JSON = re.compile(r'\s*["\[{]')

# The share of its container that an entry may take before others are left out for it: of
# an array rather some whole items, of an object rather all of its keys.
_ITEM_SHARE = 4
_KEY_SHARE = 32
_MIN_ENTRY_BYTES = 64


def cut_result(text: str, max_bytes: int) -> str:
    """Cuts the text of a result; JSON stays JSON where the budget allows it.

    Args:
        text: The text.
        max_bytes: Bytes of UTF-8 that it may take; the marker alone where that is less.
    """
    size = utf8_bytes(text)
    if size <= max_bytes:
        return text
    if size <= _MAX_BYTES and _BEGINS_LIKE_JSON.match(text):
        shortened = cut_json(text, max_bytes)
        if shortened is not None:
            return shortened
    return cut(text, max_bytes)


def cut_json(text: str, max_bytes: int) -> str | None:
    """Writes JSON in at most so many bytes; None where it is none, or nothing of it fits."""
    try:
        value = from_json(text, allow_inf_nan=False)
        whole = to_json(value)
    except ValueError:
        return None
    # Without insignificant space it may fit as it is.
    shortened = whole if len(whole) <= max_bytes else _shorten(value, max_bytes, _MAX_DEPTH)
    return None if shortened is None else shortened.decode()


def _shorten(value: Any, max_bytes: int, depth: int) -> bytes | None:
    """JSON of a value that does not fit whole; None where none of it does."""
    if isinstance(value, str):
        return _shorten_text(value, max_bytes)
    if depth and isinstance(value, list):
        items = _Entries([to_json(item) for item in value], [1] * len(value), value)
        return _shorten_array(items, max_bytes, depth)
    if depth and isinstance(value, dict):
        keys = [to_json(key) + b":" for key in value]
        values = list(value.values())
        entries = _Entries(
            [to_json(item) for item in values], [len(key) + 1 for key in keys], values
        )
        return _shorten_object(keys, entries, max_bytes, depth)
    return None


def _shorten_text(text: str, max_bytes: int) -> bytes | None:
    # A character may take up to six bytes where it is escaped.
    for bytes_per_byte in (1, 2, 6):
        shortened = to_json(cut(text, (max_bytes - 2) // bytes_per_byte))
        if len(shortened) <= max_bytes:
            return shortened
    return None


@dataclass(frozen=True, slots=True)
class _Entries:
    """The entries of an array or an object.

    Attributes:
        written: The JSON of each value.
        extra_bytes: What each entry takes beside its value.
        values: The values.
    """

    written: Sequence[bytes]
    extra_bytes: Sequence[int]
    values: Sequence[Any]

    def fit(self, max_bytes: int, share: int, depth: int) -> dict[int, bytes]:
        """The entries that are kept, by position, shortened where they must be."""
        largest = max(_MIN_ENTRY_BYTES, max_bytes // share)
        kept = self._choose(max_bytes, largest)
        room = max_bytes - sum(self.extra_bytes[index] for index in kept)
        cap = cap_for([len(self.written[index]) for index in kept], room)
        fitting: dict[int, bytes] = {}
        for index in kept:
            written: bytes | None = self.written[index]
            if cap is not None and len(self.written[index]) > cap:
                written = _shorten(self.values[index], cap, depth - 1)
            if written is not None:
                fitting[index] = written
        return fitting

    def _choose(self, max_bytes: int, largest: int) -> list[int]:
        """Positions of the first and last entries that fit, two of three from the front.

        Args:
            max_bytes: What they may take together.
            largest: What one value counts at most.
        """
        count = len(self.written)
        head = tail = 0
        while head + tail < count:
            from_tail = tail < (head + 1) // 2
            index = count - 1 - tail if from_tail else head
            max_bytes -= self.extra_bytes[index] + min(len(self.written[index]), largest)
            if max_bytes < 0:
                break
            tail += from_tail
            head += not from_tail
        return [*range(head), *range(count - tail, count)]


def _shorten_array(items: _Entries, max_bytes: int, depth: int) -> bytes | None:
    count = len(items.written)
    room = max_bytes - len(b"[,]") - len(_items_left_out(count, count))
    fitting = items.fit(room, _ITEM_SHARE, depth) if room >= 0 else {}
    if room < 0 or (not fitting and depth == _MAX_DEPTH):
        return None
    marker = _items_left_out(count - len(fitting), count)
    return b"[" + b",".join(_with_marker(fitting, count, marker)) + b"]"


def _shorten_object(
    keys: Sequence[bytes], entries: _Entries, max_bytes: int, depth: int
) -> bytes | None:
    count = len(keys)
    marker_key = b'"..."'
    while marker_key + b":" in keys:
        marker_key = b'".' + marker_key[1:]
    room = max_bytes - len(b"{,}") - len(marker_key) - 1 - len(_keys_left_out(count, count))
    fitting = entries.fit(room, _KEY_SHARE, depth) if room >= 0 else {}
    if room < 0 or (not fitting and depth == _MAX_DEPTH):
        return None
    marker = marker_key + b":" + _keys_left_out(count - len(fitting), count)
    written = {index: keys[index] + value for index, value in fitting.items()}
    return b"{" + b",".join(_with_marker(written, count, marker)) + b"}"


def _with_marker(fitting: dict[int, bytes], count: int, marker: bytes) -> list[bytes]:
    """The entries in order, with a marker where the first one is missing."""
    written = list(fitting.values())
    if len(written) < count:
        first_missing = next(
            (place for place, index in enumerate(fitting) if index != place), len(written)
        )
        written.insert(first_missing, marker)
    return written


def _items_left_out(left_out: int, count: int) -> bytes:
    return b'"... %d of %d items left out"' % (left_out, count)


def _keys_left_out(left_out: int, count: int) -> bytes:
    return b'"%d of %d keys left out"' % (left_out, count)
