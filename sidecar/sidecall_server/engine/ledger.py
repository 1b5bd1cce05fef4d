"""What has become of calls, so that a batch that is sent again runs none of them twice."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sidecall_server.core.call import Approval, BatchOptions, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import Outcome
from sidecall_server.core.ports import Clock
from sidecall_server.core.records import (
    BATCH,
    PendingApproval,
    Record,
    RecordStore,
    Scope,
    ScopeKind,
)
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.digests import call_digest, options_digest
from sidecall_server.engine.log import Entry, Log
from sidecall_server.engine.slices import Slices

_log = logging.getLogger("sidecall.engine")

_STRIDE = 64
_STORE_RETRY_S = 1.0


@dataclass(slots=True)
class Known:
    """What is remembered of a batch; in use until `Ledger.release`.

    Attributes:
        log: The calls under its request_id; None without one.
        keys: The calls under idempotency keys.
    """

    log: Log | None = None
    keys: dict[Scope, Log] = field(default_factory=dict)


class Ledger:
    """All that is remembered, in memory and where given in a store."""

    def __init__(self, limits: Limits, clock: Clock, slices: Slices) -> None:
        self._retention_ns = int(limits.request_retention_s * 1e9)
        self._max_bytes = limits.max_remembered_bytes
        self._clock = clock
        self._slices = slices
        self._store: RecordStore | None = None
        self._logs: OrderedDict[Scope, Log] = OrderedDict()  # the one used last at the end
        self._loading: dict[Scope, asyncio.Future[None]] = {}
        self._bytes = 0

    def keep_in(self, store: RecordStore) -> None:
        """Has what must survive the process kept in a store; before the first batch."""
        self._store = store

    @property
    def is_durable(self) -> bool:
        """Whether what is remembered survives the process."""
        return self._store is not None

    @property
    def count(self) -> int:
        """Requests and keys that are remembered in memory."""
        return len(self._logs)

    @property
    def size_bytes(self) -> int:
        """About the bytes that they take."""
        return self._bytes

    def knows_request(self, options: BatchOptions) -> bool:
        """Whether a batch with the request_id was accepted before, as far as memory tells."""
        log = self._get(_request_scope(options))
        return log is not None and log.is_known

    async def look_up(self, options: BatchOptions, requests: Sequence[ToolCall] | None) -> Known:
        """What is remembered of a batch.

        Args:
            options: What holds for it.
            requests: Its calls; None where they are not known yet.

        Raises:
            Rejection: The request_id was used with other content, a decision names an
                approval that is not known, or nobody knows what has run.
        """
        known = Known()
        try:
            if requests is not None:
                await self.load_keys(options, requests, known.keys)
            if options.request_id:
                known.log = await self._find(_request_scope(options))
                known.log.users += 1
                await self._check(known.log, options, requests)
        except BaseException:
            self.release(known)
            raise
        return known

    async def load_keys(
        self, options: BatchOptions, requests: Sequence[ToolCall], keys: dict[Scope, Log]
    ) -> None:
        """Has what a store knows of the calls' idempotency keys at hand.

        Args:
            options: What holds for the batch.
            requests: The calls.
            keys: The logs that the batch uses; those of the keys are added.

        Raises:
            Rejection: The store cannot be read.
        """
        if self._store is None:
            return
        scopes = {key_scope(options, request) for request in requests if request.idempotency_key}
        for scope in scopes.difference(keys):
            keys[scope] = await self._find(scope)
            keys[scope].users += 1

    def release(self, known: Known) -> None:
        """Ends the use of what is remembered of a batch."""
        logs = [*known.keys.values(), *([] if known.log is None else [known.log])]
        for log in logs:
            log.users -= 1
            self._touch(log)
        if logs:
            self._tidy()

    async def _check(
        self, log: Log, options: BatchOptions, requests: Sequence[ToolCall] | None
    ) -> None:
        """Compares a batch with its earlier sends; takes note of its calls."""
        if unknown := sorted(set(options.approvals) - log.approval_ids()):
            raise Rejection(
                RejectionReason.APPROVAL_UNKNOWN,
                f"approvals: {unknown[0]!r} is no approval_id of this request, or no longer. "
                "Nothing was run; make the calls anew.",
                "approvals",
            )
        digest = options_digest(options)
        if log.digest not in (b"", digest):
            raise _reused("other options")
        log.digest = digest
        if requests is None:
            self._put_header(log)
            return
        _check_count(log, len(requests))
        # First all of them: a request that is refused must leave nothing behind.
        digests = []
        for index, request in enumerate(requests):
            digests.append(call_digest(request))
            _check_call(log, index, digests[-1])
            if index % _STRIDE == _STRIDE - 1:
                await self._slices.breathe()
        for index, known in enumerate(digests):
            # Compared again: another send may have come in between.
            self._enter(log, index, known)
            if index % _STRIDE == _STRIDE - 1:
                await self._slices.breathe()
        self.seal(log, len(requests))

    def seal(self, log: Log, call_count: int) -> None:
        """Takes note of how many calls a request has.

        Raises:
            Rejection: It had another number before.
        """
        _check_count(log, call_count)
        if log.call_count is None:
            log.call_count = call_count
            self._put_header(log)

    def _put_header(self, log: Log) -> None:
        # The field that counts attempts of a call counts the calls of a batch.
        count = -1 if log.call_count is None else log.call_count
        self._put(log.scope, BATCH, Record(log.digest, attempts=count))

    def enter(self, log: Log, index: int, request: ToolCall) -> None:
        """Takes note of a call that comes alone.

        Raises:
            Rejection: Another call was sent with its index, or there was none.
        """
        self._enter(log, index, call_digest(request))

    def _enter(self, log: Log, index: int, digest: bytes) -> Entry:
        _check_call(log, index, digest)
        entry = log.entries.get(index)
        if entry is None:
            entry = log.entries[index] = Entry(digest)
            self._resize(log, entry.size)
        return entry

    def mint(self, options: BatchOptions, request_id: str) -> Log:
        """A log for a batch that came without an id; nobody can find it before `adopt`."""
        scope = Scope(ScopeKind.REQUEST, options.identity, "", request_id)
        return Log(scope, options_digest(options))

    def adopt(self, log: Log) -> None:
        """Makes a log that was minted known under its id."""
        log.is_known = True
        log.size += sum(entry.size for entry in log.entries.values())
        self._remember(log)
        self._put_header(log)
        for index, entry in log.entries.items():
            self._put(log.scope, index, entry.record())
        self._tidy()

    def key_log(
        self, options: BatchOptions, request: ToolCall, digest: bytes, keys: dict[Scope, Log]
    ) -> Log:
        """The log of a call's idempotency key, with one entry; made where it is new.

        Args:
            options: What holds for the batch.
            request: The call.
            digest: Digest of its arguments, for a new entry.
            keys: The logs that the batch uses; this one is added.
        """
        scope = key_scope(options, request)
        log = keys.get(scope)
        if log is None:
            log = keys[scope] = self._get(scope) or self._remember(Log(scope))
            log.users += 1
        if not log.entries:
            self._enter(log, 0, digest)
        return log

    def knows_key(
        self, options: BatchOptions, request: ToolCall, keys: Mapping[Scope, Log]
    ) -> bool:
        """Whether a call's idempotency key says what becomes of it, so that it does not run."""
        if not request.idempotency_key:
            return False
        scope = key_scope(options, request)
        log = keys.get(scope) or self._get(scope)
        entry = None if log is None else log.entries.get(0)
        if entry is None:
            return False
        return entry.flight is not None or entry.settled("", repeatable=False) is not None

    def decide(self, log: Log, index: int, decision: Approval) -> None:
        """Takes the first decision on a call."""
        entry = log.entries[index]
        if entry.approval is None:
            raise AssertionError("nobody was asked")
        pending = entry.approval
        entry.approval = PendingApproval(pending.id, pending.digest, decision)
        self._put(log.scope, index, entry.record())

    def keep(self, log: Log, index: int, outcome: Outcome, attempts: int) -> None:
        """Takes what has become of a call."""
        entry = log.entries[index]
        before = entry.size
        entry.set_outcome(outcome, attempts)
        self._resize(log, entry.size - before)
        if entry.started or entry.is_marked or entry.approval is not None:
            self._put(log.scope, index, entry.record())
        entry.is_marked = False

    async def mark_started(self, marks: Sequence[tuple[Log, int]], attempt: int) -> bool:
        """Makes it durable that an attempt starts; False where that failed.

        Args:
            marks: Where the call is remembered: logs, and positions in them.
            attempt: Number of the attempt, from 1.
        """
        for log, index in marks:
            entry = log.entries[index]
            before = entry.size
            entry.start(attempt)
            self._resize(log, entry.size - before)
            self._put(log.scope, index, entry.record())
        return self._store is None or await self._store.flush()

    async def flush(self) -> None:
        """Waits until what was kept is durable, as far as it can be."""
        if self._store is not None and not await self._store.flush():
            _log.error("results could not be stored; a restart would not remember them")

    async def _find(self, scope: Scope) -> Log:
        """The log of a scope, from memory, from the store, or a new one."""
        while scope in self._loading:
            await asyncio.wait([self._loading[scope]])
        log = self._get(scope)
        if log is None:
            log = await self._load(scope)
        self._touch(log)
        return log

    def _get(self, scope: Scope) -> Log | None:
        """The log of a scope that is in memory and may still be used."""
        log = self._logs.get(scope)
        if log is None or log.is_in_use or log.used_ns > self._oldest_ns():
            return log
        self._forget(log)
        return None

    async def _load(self, scope: Scope) -> Log:
        log = Log(scope)
        if self._store is not None:
            done = self._loading[scope] = asyncio.get_running_loop().create_future()
            try:
                found = await self._store.load(scope)
            finally:
                del self._loading[scope]
                done.set_result(None)
            if found is None:
                raise Rejection(
                    RejectionReason.STORE_UNAVAILABLE,
                    "The store of earlier requests cannot be read, so nobody knows what has run.",
                    retry_after_s=_STORE_RETRY_S,
                )
            records = dict(found)
            header = records.pop(BATCH, None)
            if header is not None:
                log.is_known = True
                log.digest = header.digest
                log.call_count = None if header.attempts < 0 else header.attempts
            for index, record in records.items():
                log.entries[index] = entry = Entry(
                    record.digest, record.started, record.outcome, record.attempts, record.approval
                )
                log.size += entry.size
        return self._remember(log)

    def _remember(self, log: Log) -> Log:
        self._logs[log.scope] = log
        self._bytes += log.size
        self._touch(log)
        return log

    def _forget(self, log: Log) -> None:
        del self._logs[log.scope]
        self._bytes -= log.size

    def _resize(self, log: Log, more: int) -> None:
        log.size += more
        if self._logs.get(log.scope) is log:
            self._bytes += more

    def _touch(self, log: Log) -> None:
        log.used_ns = self._clock.now_ns()
        if self._logs.get(log.scope) is log:
            self._logs.move_to_end(log.scope)

    def _oldest_ns(self) -> int:
        return self._clock.now_ns() - self._retention_ns

    def _tidy(self) -> None:
        """Forgets what was not used for long, and what takes too much room."""
        oldest_ns, excess = self._oldest_ns(), self._bytes - self._max_bytes
        forgotten = []
        for log in self._logs.values():
            if log.used_ns > oldest_ns and excess <= 0:
                break
            if not log.is_in_use:
                forgotten.append(log)
                excess -= log.size
        for log in forgotten:
            self._forget(log)

    def _put(self, scope: Scope, index: int, record: Record) -> None:
        if self._store is not None:
            self._store.put(scope, index, record)


def key_scope(options: BatchOptions, request: ToolCall) -> Scope:
    """What a call's idempotency key is remembered under."""
    return Scope(ScopeKind.KEY, options.identity, request.name, request.idempotency_key)


def _request_scope(options: BatchOptions) -> Scope:
    return Scope(ScopeKind.REQUEST, options.identity, "", options.request_id)


def _check_count(log: Log, call_count: int) -> None:
    if log.call_count not in (None, call_count) or any(i >= call_count for i in log.entries):
        raise _reused("another number of calls")


def _check_call(log: Log, index: int, digest: bytes) -> None:
    entry = log.entries.get(index)
    if entry is None and log.call_count is not None and index >= log.call_count:
        raise _reused("fewer calls")
    if entry is not None and entry.digest != digest:
        raise _reused(f"another call @{index + 1}")


def _reused(what: str) -> Rejection:
    return Rejection(
        RejectionReason.REQUEST_ID_REUSED,
        f"request_id: it was used before, with {what}. Use a new one for other calls.",
        "request_id",
    )
