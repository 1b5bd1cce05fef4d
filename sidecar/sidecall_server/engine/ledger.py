"""What has become of calls, so that a batch that is sent again runs none of them twice."""

import asyncio
import logging
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
from sidecall_server.engine.remembered import Remembered
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
        self._slices = slices
        self._store: RecordStore | None = None
        self._logs = Remembered(limits, clock)
        self._loading: dict[Scope, asyncio.Future[None]] = {}

    def keep_in(self, store: RecordStore) -> None:
        """Has what must survive the process kept in a store; before the first batch."""
        self._store = store
        self._logs.is_durable = True
        store.keep_in_use(self._logs.in_use)

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
        return self._logs.size

    def knows_request(self, options: BatchOptions) -> bool:
        """Whether a batch with the request_id was accepted before, as far as memory tells."""
        log = self._logs.get(_request_scope(options))
        return log is not None and log.is_known

    async def look_up(self, options: BatchOptions, requests: Sequence[ToolCall] | None) -> Known:
        """What is remembered of a batch.

        Args:
            options: What holds for it.
            requests: Its calls; None where they are not known yet.

        Raises:
            Rejection: The request_id was used with other content, a decision names an
                approval that is not known, nobody knows what has run, or there is no room.
        """
        known = Known()
        try:
            if requests is not None:
                await self.load_keys(options, requests, known.keys)
            if options.request_id:
                log = known.log = await self._find(_request_scope(options))
                if not log.is_known:
                    self._check_forgotten(log, options)
                    count = 0 if requests is None else len(requests)
                    self._logs.check_room(options.identity, count)
                await self._check(log, options, requests)
        except BaseException:
            self.release(known)
            raise
        return known

    def _check_forgotten(self, log: Log, options: BatchOptions) -> None:
        """Raises Rejection where a batch is sent again after what it has run is forgotten.

        That it is sent again says too little: a first send may never have arrived, and then
        a second one must run. So it takes having known the request.
        """
        if options.sent_to_instance and self._logs.has_forgotten(log.scope):
            raise Rejection(
                RejectionReason.REQUEST_FORGOTTEN,
                "request_id: the batch was sent before, so long ago that what became of it is no "
                "longer known. It has run nothing now, but calls of an earlier send may have run: "
                "find out before you make them again.",
                "sent_to_instance",
            )

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

        async def load(scope: Scope) -> None:
            keys[scope] = await self._find(scope)

        wanted = sorted(scopes.difference(keys))
        for start in range(0, len(wanted), _STRIDE):
            # Together, so that they wait for the store once, and not too many for one turn.
            loads = map(load, wanted[start : start + _STRIDE])
            for failure in await asyncio.gather(*loads, return_exceptions=True):
                if failure is not None:
                    raise failure

    def accept(self, log: Log) -> None:
        """Takes note that a batch was accepted; from now on its request_id stands for it."""
        if not log.is_known:
            log.is_known = True
            self._put_header(log)

    def release(self, known: Known) -> None:
        """Ends the use of what is remembered of a batch."""
        logs = [*known.keys.values(), *([] if known.log is None else [known.log])]
        for log in logs:
            self._logs.release(log)
            self._touch(log)
            if not (log.is_known or log.is_in_use or log.scope.kind is ScopeKind.KEY):
                # Its batch was refused: other content may come under its id.
                self._logs.forget(log)
        if logs:
            self._logs.tidy()

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
            if log.is_known:
                self._put_header(log)

    def _put_header(self, log: Log) -> None:
        self._put(log.scope, BATCH, Record.of_batch(log.digest, log.call_count))

    def enter(self, log: Log, index: int, request: ToolCall) -> None:
        """Takes note of a call that comes alone.

        Raises:
            Rejection: Another call was sent with its index, or there was none.
        """
        self._enter(log, index, call_digest(request))

    def _enter(self, log: Log, index: int, digest: bytes) -> Entry:
        _check_call(log, index, digest)
        entry = log.entries.get(index)
        return self._logs.enter(log, index, digest) if entry is None else entry

    @property
    def retry_after_s(self) -> float:
        """Seconds after which there may be room where there is none."""
        return self._logs.retry_after_s

    def mint(self, options: BatchOptions, request_id: str, call_count: int) -> Log | None:
        """A log for a batch that came without an id; None where there is no room.

        It is in use, and only once it is adopted a later send finds it.
        """
        if not self._logs.has_room(options.identity, 1 + call_count):
            return None
        scope = Scope(ScopeKind.REQUEST, options.identity, "", request_id)
        log = self._logs.add(Log(scope, options_digest(options)))
        self._logs.hold(log)
        return log

    def entry(self, log: Log, index: int, request: ToolCall) -> Entry:
        """What is known of a call; an entry is made where there is none."""
        entry = log.entries.get(index)
        return self._logs.enter(log, index, call_digest(request)) if entry is None else entry

    def adopt(self, log: Log) -> None:
        """Makes a log that was minted known under its id."""
        self.accept(log)
        for index, entry in log.entries.items():
            self._logs.recount(log, entry)
            self._put(log.scope, index, entry.record())

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
            log = keys[scope] = self._logs.get(scope) or self._logs.add(Log(scope))
            self._logs.hold(log)
        if not log.entries:
            self._enter(log, 0, digest)
        return log

    def has_room_for_key(
        self, options: BatchOptions, request: ToolCall, keys: Mapping[Scope, Log]
    ) -> bool:
        """Whether a call's idempotency key is remembered or may be."""
        scope = key_scope(options, request)
        if scope in keys or self._logs.get(scope) is not None:
            return True
        return self._logs.has_room(options.identity, 2)

    def knows_key(
        self, options: BatchOptions, request: ToolCall, keys: Mapping[Scope, Log]
    ) -> bool:
        """Whether a call's idempotency key says what becomes of it, so that it does not run."""
        if not request.idempotency_key:
            return False
        scope = key_scope(options, request)
        log = keys.get(scope) or self._logs.get(scope)
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
        self._logs.recount(log, entry)
        self._put(log.scope, index, entry.record())

    def keep(self, log: Log, index: int, outcome: Outcome, attempts: int) -> None:
        """Takes what has become of a call."""
        entry = log.entries[index]
        entry.is_repeatable = entry.flight is not None and entry.flight.repeatable
        entry.set_outcome(outcome, attempts)
        self._logs.recount(log, entry)
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
            entry.start(attempt)
            self._logs.recount(log, entry)
            self._put(log.scope, index, entry.record())
        return self._store is None or await self._store.flush()

    async def flush(self) -> None:
        """Waits until what was kept is durable, as far as it can be."""
        if self._store is not None and not await self._store.flush():
            _log.error("results could not be stored; a restart would not remember them")

    async def _find(self, scope: Scope) -> Log:
        """The log of a scope, from memory, from the store, or a new one; it is held."""
        while scope in self._loading:
            await asyncio.wait([self._loading[scope]])
        log = self._logs.get(scope)
        if log is None:
            log = await self._load(scope)
        self._logs.hold(log)
        self._logs.use(log)
        self._touch(log)
        return log

    def _touch(self, log: Log) -> None:
        if self._store is not None and (log.is_known or log.entries):
            self._store.touch(log.scope)

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
                raise _unavailable("cannot be read")
            _fill(log, found)
        return self._logs.add(log)

    def _put(self, scope: Scope, index: int, record: Record) -> None:
        if self._store is not None:
            self._store.put(scope, index, record)


def key_scope(options: BatchOptions, request: ToolCall) -> Scope:
    """What a call's idempotency key is remembered under."""
    return Scope(ScopeKind.KEY, options.identity, request.name, request.idempotency_key)


def _request_scope(options: BatchOptions) -> Scope:
    return Scope(ScopeKind.REQUEST, options.identity, "", options.request_id)


def _fill(log: Log, found: Mapping[int, Record]) -> None:
    """Has a log know what a store does."""
    records = dict(found)
    header = records.pop(BATCH, None)
    if header is not None:
        log.is_known = True
        log.digest, log.call_count = header.digest, header.call_count
    elif records and log.scope.kind is ScopeKind.REQUEST:
        # The header comes first: what was there before the rest was lost.
        raise _unavailable("has lost a part of them")
    for index, record in records.items():
        log.entries[index] = entry = Entry(
            record.digest, record.started, record.outcome, record.attempts, record.approval
        )
        log.recount(entry)


def _unavailable(why: str) -> Rejection:
    return Rejection(
        RejectionReason.STORE_UNAVAILABLE,
        f"The store of earlier requests {why}, so nobody knows what has run.",
        retry_after_s=_STORE_RETRY_S,
    )


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
