"""How the scripted model cuts its answers into deltas."""

from collections.abc import Iterator
from itertools import chain, zip_longest

from sidecall.scripted.script import ScriptedTurn


def pieces(text: str, size: int) -> Iterator[str]:
    """Yields a text in pieces."""
    for start in range(0, len(text), size):
        yield text[start : start + size]


def call_pieces(turn: ScriptedTurn) -> Iterator[tuple[int, bool, str]]:
    """Yields the deltas of a turn's calls: index, whether it is the call's first, and text.

    The first delta of a call has no arguments yet, as with the real API.
    """
    streams = [
        [
            (index, number == 0, piece)
            for number, piece in enumerate(["", *pieces(call.text, turn.piece_chars)])
        ]
        for index, call in enumerate(turn.calls)
    ]
    if not turn.interleave:
        yield from chain.from_iterable(streams)
        return
    for row in zip_longest(*streams):
        yield from (delta for delta in row if delta is not None)
