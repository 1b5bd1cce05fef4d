"""The logs that are in memory, and which of them go when there is no room."""

import logging
from collections import OrderedDict

from sidecall_server.core.defaults import Limits
from sidecall_server.core.ports import Clock
from sidecall_server.core.records import Scope
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.log import ENTRY_BYTES, Entry, Log

_log = logging.getLogger("sidecall.engine")

_RETRY_S = 1.0
"""Seconds, at least, after which there may be room."""

_WARN_NS = 10_000_000_000
"""Time between two warnings that there is no room."""


_MAX_FORGOTTEN = 50_000
"""Requests of which it is known that they were forgotten; about 10 MB."""


class _Owner:
    """The logs of one identity.

    Attributes:
        size: About the bytes that they take.
        marks: Requests, keys and calls in them.
        idle: Those that may be made smaller, the one used least recently first.
        spare: Those of them that may go, since nothing in them must not run twice.
    """

    __slots__ = ("idle", "marks", "size", "spare")

    def __init__(self) -> None:
        self.size = 0
        self.marks = 0
        self.idle: OrderedDict[Scope, Log] = OrderedDict()
        self.spare: OrderedDict[Scope, Log] = OrderedDict()


class Remembered:
    """Logs by scope. A log that a batch uses, or an attempt that runs, stays as it is.

    Where bytes are short, outcomes are dropped, of the log used least recently of the
    identity that holds most; that a call was started stays until its time is over. Where
    even that is too much, new ids are refused: an identity takes at most half of what the
    others leave, so that whoever comes next finds room.

    Attributes:
        is_durable: Whether what is forgotten is found again elsewhere; then logs go as a
            whole, and nothing is refused.
        size: About the bytes that they take.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.is_durable = False
        self.size = 0
        self._retention_ns = int(limits.request_retention_s * 1e9)
        self._max_bytes = limits.max_remembered_bytes
        self._max_marks = limits.max_remembered_bytes // ENTRY_BYTES
        self._clock = clock
        self._marks = 0
        self._warn_ns = 0
        self._logs: OrderedDict[Scope, Log] = OrderedDict()  # the one used last at the end
        self._owners: dict[str, _Owner] = {}
        self._in_use: dict[Scope, Log] = {}
        self._forgotten: OrderedDict[Scope, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._logs)

    def get(self, scope: Scope) -> Log | None:
        """The log of a scope that is in memory and may still be used."""
        log = self._logs.get(scope)
        if log is None or log.is_in_use or log.used_ns > self._oldest_ns():
            return log
        self.forget(log)
        return None

    def add(self, log: Log) -> Log:
        """Takes a log."""
        owner = self._owners.setdefault(log.scope.identity, _Owner())
        self._logs[log.scope] = log
        owner.size += log.size
        owner.marks += log.marks
        self.size += log.size
        self._marks += log.marks
        self.use(log)
        self._put_down(log)
        return log

    def enter(self, log: Log, index: int, digest: bytes) -> Entry:
        """Makes the entry of a call."""
        entry = log.entries[index] = Entry(digest)
        if self._has(log):
            self._owners[log.scope.identity].marks += 1
            self._marks += 1
        self.recount(log, entry)
        return entry

    def recount(self, log: Log, entry: Entry) -> None:
        """Takes note of what an entry takes by now."""
        more = log.recount(entry)
        if self._has(log):
            self._owners[log.scope.identity].size += more
            self.size += more

    def use(self, log: Log) -> None:
        """Takes note that a log is used now."""
        log.used_ns = self._clock.now_ns()
        if self._has(log):
            self._logs.move_to_end(log.scope)
            owner = self._owners[log.scope.identity]
            for order in (owner.idle, owner.spare):
                if log.scope in order:
                    order.move_to_end(log.scope)

    def hold(self, log: Log) -> None:
        """Has a log stay as it is until `release`."""
        log.users += 1
        self._in_use[log.scope] = log
        owner = self._owners[log.scope.identity]
        owner.idle.pop(log.scope, None)
        owner.spare.pop(log.scope, None)

    def release(self, log: Log) -> None:
        """Ends what a `hold` began."""
        log.users -= 1
        self.use(log)
        if not log.users:
            self._put_down(log)

    def forget(self, log: Log) -> None:
        """Forgets a log that is not in use."""
        owner = self._owners[log.scope.identity]
        del self._logs[log.scope]
        if log.is_known and log.scope not in owner.spare:
            self._forgotten[log.scope] = None
            if len(self._forgotten) > _MAX_FORGOTTEN:
                self._forgotten.popitem(last=False)
        for logs in (self._in_use, owner.idle, owner.spare):
            logs.pop(log.scope, None)
        owner.size -= log.size
        owner.marks -= log.marks
        self.size -= log.size
        self._marks -= log.marks
        if not owner.marks:
            del self._owners[log.scope.identity]

    def has_forgotten(self, scope: Scope) -> bool:
        """Whether a request was remembered that must not run twice, and is no longer.

        The oldest of them are forgotten altogether.
        """
        return scope in self._forgotten

    def in_use(self) -> list[Scope]:
        """Scopes of the logs that are in use."""
        return [scope for scope, log in self._in_use.items() if log.is_in_use]

    def tidy(self) -> None:
        """Forgets what was not used for long, and what takes too much room."""
        oldest_ns = self._oldest_ns()
        forgotten = []
        for log in self._logs.values():
            if log.used_ns > oldest_ns:
                break
            if not log.is_in_use:
                forgotten.append(log)
        for log in forgotten:
            self.forget(log)
        if self.size > self._max_bytes:
            self._make_room()

    def has_room(self, identity: str, marks: int) -> bool:
        """Whether an identity may have so many more requests, keys and calls remembered."""
        if self.is_durable or self._fits(identity, marks):
            return True
        self.tidy()
        self._put_down_landed()
        owner = self._owners.get(identity)
        if owner is not None:
            self._forget_spare(owner, identity, marks)
        for other in sorted(self._owners.values(), key=lambda other: other.marks, reverse=True):
            # Who has less than the one that asks keeps it.
            if other.marks > self._marks_of(identity) + marks:
                self._forget_spare(other, identity, marks)
        has_room = self._fits(identity, marks)
        if not has_room:
            self._warn()
        return has_room

    def check_room(self, identity: str, marks: int) -> None:
        """Raises Rejection where there is no room for a new request."""
        if self.has_room(identity, marks):
            return
        raise Rejection(
            RejectionReason.REQUEST_MEMORY_FULL,
            "request_id: as many requests are remembered as there is room for, and none of them "
            "may be forgotten yet. Nothing was run; send the batch later, or without an id.",
            "request_id",
            self.retry_after_s,
        )

    @property
    def retry_after_s(self) -> float:
        """Seconds after which there may be room where there is none."""
        oldest = next(iter(self._logs.values()), None)
        left_ns = 0 if oldest is None else oldest.used_ns - self._oldest_ns()
        return max(_RETRY_S, left_ns / 1e9)

    def _fits(self, identity: str, marks: int) -> bool:
        mine = self._marks_of(identity)
        others = self._marks - mine
        return mine + marks <= (self._max_marks - others) // 2

    def _marks_of(self, identity: str) -> int:
        owner = self._owners.get(identity)
        return 0 if owner is None else owner.marks

    def _forget_spare(self, owner: _Owner, identity: str, marks: int) -> None:
        """Forgets what an owner may lose, until so many marks fit for an identity."""
        while owner.spare and not self._fits(identity, marks):
            self.forget(next(iter(owner.spare.values())))

    def _warn(self) -> None:
        now_ns = self._clock.now_ns()
        if now_ns < self._warn_ns:
            return
        self._warn_ns = now_ns + _WARN_NS
        _log.warning(
            "no room to remember more: new request ids, idempotency keys and questions for "
            "approval are refused; %d calls and requests of %d callers are remembered; "
            "max_remembered_bytes and request_retention bound them",
            self._marks,
            len(self._owners),
        )

    def _make_room(self) -> None:
        self._put_down_landed()
        for owner in sorted(self._owners.values(), key=lambda owner: owner.size, reverse=True):
            while owner.idle and self.size > self._max_bytes:
                log = next(iter(owner.idle.values()))
                if self.is_durable or log.scope in owner.spare:
                    self.forget(log)
                else:
                    del owner.idle[log.scope]
                    less = log.drop_bulk()
                    owner.size -= less
                    self.size -= less

    def _put_down_landed(self) -> None:
        """Puts down where attempts have ended that had outlived their batches."""
        for log in [log for log in self._in_use.values() if not log.is_in_use]:
            self._put_down(log)

    def _put_down(self, log: Log) -> None:
        """Says what may be done with a log that no batch uses."""
        if log.is_in_use:
            return
        self._in_use.pop(log.scope, None)
        if not self._has(log):
            return
        owner = self._owners[log.scope.identity]
        if self.is_durable or log.is_spare or log.size > log.marks * ENTRY_BYTES:
            owner.idle[log.scope] = log
        if log.is_spare:
            owner.spare[log.scope] = log

    def _has(self, log: Log) -> bool:
        return self._logs.get(log.scope) is log

    def _oldest_ns(self) -> int:
        return self._clock.now_ns() - self._retention_ns
