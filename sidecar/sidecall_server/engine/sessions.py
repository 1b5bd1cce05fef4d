"""Sessions: results of earlier turns that later ones may refer to."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from sidecall_server.core.call import BatchOptions, Call
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import Outcome, Reason, Success
from sidecall_server.core.ports import Clock
from sidecall_server.engine.watchdog import NEVER, Watchdog
from sidecall_server.policy.memory import memory_of

_STRIDE = 64
"""Results of a batch that are added in one step."""

_FAILURE_BYTES = memory_of(Success(""))

Kept = Success | Reason
"""What is remembered of a call: its result without parts, or why it has none."""


class _Session:
    """Results by call id, the oldest first."""

    __slots__ = ("results", "size", "used_ns")

    def __init__(self) -> None:
        self.results: OrderedDict[str, Kept] = OrderedDict()
        self.size = 0
        self.used_ns = 0

    def put(self, call_id: str, kept: Kept) -> None:
        old = self.results.pop(call_id, None)
        if old is not None:
            self.size -= _size(call_id, old)
        self.results[call_id] = kept
        self.size += _size(call_id, kept)

    def evict(self) -> None:
        self.size -= _size(*self.results.popitem(last=False))


def _size(call_id: str, kept: Kept) -> int:
    return len(call_id) + (memory_of(kept) if type(kept) is Success else _FAILURE_BYTES)


class _Owner:
    """The sessions of one identity by id, the least recently used first."""

    __slots__ = ("sessions", "size")

    def __init__(self) -> None:
        self.sessions: OrderedDict[str, _Session] = OrderedDict()
        self.size = 0


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """What sessions hold.

    Attributes:
        sessions: Sessions that are remembered.
        results: Results in them, failures included.
        bytes: Memory that these take, about.
        evicted: Results that were dropped before their time, for want of room.
    """

    sessions: int
    results: int
    bytes: int
    evicted: int


class Sessions:
    """The sessions of one sidecar. Made and used on one event loop.

    Each identity has its own: nobody else can read them. A session is forgotten when it
    has not been used for `Limits.session_retention_s`; to find a result, or to add some, is
    to use it. Where memory is short the oldest results go first: of the session that has
    too many, or of the least recently used one of the identity that has most.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._watchdog = Watchdog(clock, self._expire)
        self._retention_ns = round(limits.session_retention_s * 1e9)
        self._max_bytes = limits.max_session_bytes
        self._max_bytes_each = limits.max_session_bytes // 2
        self._owners: dict[str, _Owner] = {}
        self._by_use: OrderedDict[tuple[str, str], _Session] = OrderedDict()
        self._size = 0
        self._evicted = 0

    def find(self, identity: str, session_id: str, call_id: str) -> Kept | None:
        """The result of the latest call with an id.

        Returns:
            The result without its parts; why there is none where the call failed, with
            RESULT_TOO_LARGE for one that no session can hold; None where no such call is
            remembered.
        """
        session = self._use(identity, session_id)
        return session.results.get(call_id) if session is not None else None

    def finder(self, options: BatchOptions) -> Callable[[str], Kept | None] | None:
        """What finds results in the session of a batch; None where it names none."""
        if not options.session_id:
            return None
        return partial(self.find, options.identity, options.session_id)

    def add(self, identity: str, session_id: str, results: Iterable[tuple[str, Outcome]]) -> None:
        """Adds results by call id, in order; a later one replaces an earlier one."""
        session = self._use(identity, session_id) or self._open(identity, session_id)
        before = session.size
        for call_id, outcome in results:
            session.put(call_id, self._keep(call_id, outcome))
        while session.size > self._max_bytes_each:
            session.evict()
            self._evicted += 1
        self._account(identity, session_id, session.size - before)
        if self._size > self._max_bytes:
            self._make_room()

    def keep(self, options: BatchOptions, calls: Mapping[int, Call]) -> Iterator[None]:
        """Adds the results of a batch, in order, a few with each step."""
        order = sorted(calls)
        for start in range(0, len(order), _STRIDE):
            self.add_calls(options, [calls[i] for i in order[start : start + _STRIDE]])
            yield

    def add_calls(self, options: BatchOptions, calls: Iterable[Call]) -> None:
        """Adds the results of calls of a batch, in order.

        What was replayed is older than what the session has under the same id.
        """
        identity, session_id = options.identity, options.session_id
        results = []
        for call in calls:
            call_id, outcome = call.request.id, call.outcome
            if not call_id or outcome is None:
                continue
            if call.replayed and self.find(identity, session_id, call_id) is not None:
                continue
            results.append((call_id, outcome))
        self.add(identity, session_id, results)

    def stop(self) -> None:
        """Forgets all sessions."""
        self._watchdog.stop()
        self._owners.clear()
        self._by_use.clear()
        self._size = 0

    def statistics(self) -> SessionStatistics:
        """Their state now."""
        results = sum(len(session.results) for session in self._by_use.values())
        return SessionStatistics(len(self._by_use), results, self._size, self._evicted)

    def _keep(self, call_id: str, outcome: Outcome) -> Kept:
        """What is remembered of an outcome; references read no parts."""
        if not isinstance(outcome, Success):
            return outcome.reason
        kept = Success(outcome.text, outcome.is_json) if outcome.parts else outcome
        # What no session can hold must not be mistaken for what was never called.
        is_too_large = _size(call_id, kept) > self._max_bytes_each
        return Reason.RESULT_TOO_LARGE if is_too_large else kept

    def _use(self, identity: str, session_id: str) -> _Session | None:
        session = self._by_use.get((identity, session_id))
        if session is None:
            return None
        now_ns = self._clock.now_ns()
        if session.used_ns + self._retention_ns <= now_ns:
            self._forget(identity, session_id)
            return None
        session.used_ns = now_ns
        self._by_use.move_to_end((identity, session_id))
        self._owners[identity].sessions.move_to_end(session_id)
        return session

    def _open(self, identity: str, session_id: str) -> _Session:
        session = _Session()
        session.used_ns = self._clock.now_ns()
        self._by_use[identity, session_id] = session
        self._owners.setdefault(identity, _Owner()).sessions[session_id] = session
        self._watchdog.arm(session.used_ns + self._retention_ns)
        return session

    def _account(self, identity: str, session_id: str, growth: int) -> None:
        """Takes note that a session has grown or shrunk; an empty one is forgotten."""
        owner = self._owners[identity]
        owner.size += growth
        self._size += growth
        if not owner.sessions[session_id].results:
            self._forget(identity, session_id)

    def _forget(self, identity: str, session_id: str) -> None:
        owner = self._owners[identity]
        session = owner.sessions.pop(session_id)
        del self._by_use[identity, session_id]
        owner.size -= session.size
        self._size -= session.size
        if not owner.sessions:
            del self._owners[identity]

    def _make_room(self) -> None:
        # The largest is at least as large as whoever has just grown over the bound, so one
        # look at all of them is enough.
        identity, owner = max(self._owners.items(), key=lambda item: item[1].size)
        while self._size > self._max_bytes and owner.sessions:
            session_id, session = next(iter(owner.sessions.items()))
            before = session.size
            session.evict()
            self._evicted += 1
            self._account(identity, session_id, session.size - before)

    def _expire(self, now_ns: int) -> int:
        """Forgets what has not been used for long; returns when to look again."""
        while self._by_use:
            owned, session = next(iter(self._by_use.items()))
            expires_ns = session.used_ns + self._retention_ns
            if expires_ns > now_ns:
                return expires_ns
            self._forget(*owned)
        return NEVER
