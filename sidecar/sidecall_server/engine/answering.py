"""How long before its client gives up a batch must be over, so that its results arrive.

Becoming final, being written and read takes time per call, and the batches that are open
take turns at it. Those that end together are placed one before the other: each leaves time
for the calls that were open when it came.
"""

_MIN_NS = 20_000_000
_MAX_NS = 250_000_000
"""Bounds of what the way back may take, whatever the number of calls."""

CALL_NS = 80_000
"""About twice what a call takes from the end of its batch to the client, both on a machine
of two cores: ending it 7 us, its result 14 us, 22 us where results do not fit and are cut,
and encoding, sending and reading 2 us."""

_MAX_OPEN_CALLS = 12_500
"""Calls that count: more do not end at one time."""


class Answering:
    """Counts the calls whose results are still to be sent.

    Attributes:
        open_calls: Their number.
    """

    __slots__ = ("open_calls",)

    def __init__(self) -> None:
        self.open_calls = 0

    def margin_ns(self, remaining_ns: int) -> int:
        """Time that a batch leaves for its answer, at most half of what remains to it."""
        way_back_ns = min(_MAX_NS, max(_MIN_NS, remaining_ns // 20))
        calls_ns = CALL_NS * min(self.open_calls, _MAX_OPEN_CALLS)
        return min(way_back_ns + calls_ns, remaining_ns // 2)
