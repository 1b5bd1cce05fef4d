"""Sharing: which calls are identical, and results that answer later ones."""

import heapq
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from sidecall_server.core.outcome import Success
from sidecall_server.core.tool import Sharing
from sidecall_server.policy.memory import memory_of

_KEY_BYTES = 24
_STALE_DUE_ALLOWED = 64

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def call_key(
    name: str,
    arguments: Mapping[str, Any],
    sharing: Sharing,
    identity: str,
    context: Mapping[str, str],
) -> bytes:
    """A key that calls have in common where one run may answer them all.

    The order of names does not matter; values that a tool could tell apart, such as 1 and
    1.0, make calls differ. It never raises: arguments that cannot be written as JSON get a
    key that no other call has.

    Args:
        name: The tool's name.
        arguments: Resolved, validated arguments as JSON values.
        sharing: When the tool's results are shared.
        identity: Whose call it is; without meaning where all callers share.
        context: Context of the batch.
    """
    owner = None if sharing.all_callers else identity
    keys = sorted(context) if sharing.context_keys is None else sharing.context_keys
    facts = [(key, context.get(key)) for key in keys]
    try:
        content = _encode([name, owner, facts, arguments]).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, RecursionError):
        return os.urandom(_KEY_BYTES)
    return blake2b(content, digest_size=_KEY_BYTES).digest()


class _Entry(NamedTuple):
    success: Success
    expires_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache holds and has done.

    Attributes:
        entries: Results that it holds.
        bytes: Memory that they take, about.
        hits: Times that it had an answer.
        misses: Times that it had none.
        evicted: Results that it dropped before their time, for want of room.
    """

    entries: int
    bytes: int
    hits: int
    misses: int
    evicted: int


class ResultCache:
    """Results of calls, by `call_key`, until their time is over.

    Bounded in number and memory: the least recently used go first. Whatever is asked of it
    frees what has expired meanwhile.

    Points in time are nanoseconds on a monotonic clock.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # least recently used first
        self._due: list[tuple[int, bytes]] = []  # a heap; may name entries that are gone
        self._bytes = 0
        self._hits = 0
        self._misses = 0
        self._evicted = 0

    def get(self, key: bytes, now_ns: int) -> Success | None:
        """The result that answers a call, if there is one."""
        self.expire(now_ns)
        entry = self._entries.get(key)
        if entry is None:
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(key)
        return entry.success

    def put(self, key: bytes, success: Success, ttl_s: float, now_ns: int) -> None:
        """Keeps a result for a time; it replaces an earlier one."""
        self.expire(now_ns)
        self._remove(key)
        expires_ns = now_ns + round(ttl_s * 1e9)
        size = memory_of(success)
        if expires_ns <= now_ns or size > self._max_bytes:
            return
        self._entries[key] = _Entry(success, expires_ns, size)
        self._bytes += size
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))
            self._evicted += 1
        if len(self._due) > 2 * len(self._entries) + _STALE_DUE_ALLOWED:
            self._due = [(entry.expires_ns, key) for key, entry in self._entries.items()]
            heapq.heapify(self._due)
        else:
            heapq.heappush(self._due, (expires_ns, key))

    def expire(self, now_ns: int) -> None:
        """Frees what has expired."""
        due = self._due
        while due and due[0][0] <= now_ns:
            expires_ns, key = heapq.heappop(due)
            entry = self._entries.get(key)
            if entry is not None and entry.expires_ns == expires_ns:
                self._remove(key)

    def statistics(self) -> CacheStatistics:
        """Its state now."""
        return CacheStatistics(
            len(self._entries), self._bytes, self._hits, self._misses, self._evicted
        )

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size
