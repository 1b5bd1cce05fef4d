"""How much memory results take that are kept."""

import sys

from sidecall_server.core.outcome import Success

_OVERHEAD_BYTES = 512
"""About what an entry takes beside its texts: keys, tables and objects."""


def memory_of(success: Success) -> int:
    """Bytes that a result which is kept takes, about."""
    size = _OVERHEAD_BYTES + sys.getsizeof(success.text)
    for part in success.parts:
        size += sum(sys.getsizeof(getattr(part, name)) for name in part.__slots__)
    return size
