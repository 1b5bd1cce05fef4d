"""What has become of calls, so that a batch that is sent again runs none of them twice."""

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sidecall_server.core.call import Approval, Arguments, BatchOptions, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import ExecutionState, Failure, Outcome, Reason, Success
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
from sidecall_server.engine.flights import Flight
from sidecall_server.engine.slices import Slices

_log = logging.getLogger("sidecall.engine")

_ENTRY_BYTES = 400
"""About what an entry takes beside the text of its result."""

_STRIDE = 64
_STORE_RETRY_S = 1.0


@dataclass(slots=True)
class Entry:
    """What is known of one call.

    Attributes:
        digest: Digest of its content.
        started: Whether an attempt may have been started.
        outcome: What became of it; None where that is not known.
        attempts: Attempts that were made.
        approval: The human's part; None where none is asked.
        flight: The run in flight; None where there is none.
        is_marked: Whether the store says that it was started.
    """

    digest: bytes
    started: bool = False
    outcome: Outcome | None = None
    attempts: int = 0
    approval: PendingApproval | None = None
    flight: Flight | None = None
    is_marked: bool = False

    def settled(self, name: str, *, repeatable: bool) -> Outcome | None:
        """What a call gets that must not run again; None where it may run.

        Args:
            name: Name of the tool.
            repeatable: Whether running it twice does no harm.
        """
        outcome = self.outcome
        if outcome is None:
            unknown = self.started
        elif isinstance(outcome, Success) or outcome.state is ExecutionState.COMPLETED:
            return outcome
        else:
            unknown = outcome.state is ExecutionState.UNKNOWN
        if outcome is not None and outcome.reason is Reason.APPROVAL_REJECTED:
            return outcome
        return _outcome_unknown(name) if unknown and not repeatable else None

    def set_outcome(self, outcome: Outcome, attempts: int) -> None:
        """Takes what has become of the call."""
        self.outcome = outcome
        self.attempts = attempts
        self.started = not (
            isinstance(outcome, Failure) and outcome.state is ExecutionState.NOT_STARTED
        )

    def record(self) -> Record:
        """What is stored of it."""
        return Record(self.digest, self.started, self.outcome, self.attempts, self.approval)

    @property
    def size(self) -> int:
        """About the bytes that it takes."""
        outcome = self.outcome
        text = outcome.text if isinstance(outcome, Success) else ""
        parts = sum(len(getattr(part, "data", b"")) for part in getattr(outcome, "parts", ()))
        return _ENTRY_BYTES + len(text) + parts


@dataclass(slots=True)
class Log:
    """The calls that are remembered under one scope.

    Attributes:
        scope: The scope.
        digest: Digest of what holds for all calls; empty for a key.
        call_count: Number of its calls; None before the seal of a stream.
        entries: What is known of each call, by position.
        is_known: Whether a batch with it was accepted before.
        users: Batches that use it at present.
        used_ns: When it was last used.
        size: About the bytes that it takes.
    """

    scope: Scope
    digest: bytes = b""
    call_count: int | None = None
    entries: dict[int, Entry] = field(default_factory=dict)
    is_known: bool = False
    users: int = 0
    used_ns: int = 0
    size: int = _ENTRY_BYTES

    @property
    def is_in_flight(self) -> bool:
        """Whether an attempt runs whose outcome belongs here."""
        return any(entry.flight is not None for entry in self.entries.values())

    def approval_ids(self) -> set[str]:
        """The ids that were given out."""
        return {entry.approval.id for entry in self.entries.values() if entry.approval is not None}


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

    async def open(self, options: BatchOptions, requests: Sequence[ToolCall] | None) -> Log:
        """The log of a request, which is in use until `close`.

        Args:
            options: What holds for the batch; `request_id` is set.
            requests: Its calls; None where they are not known yet.

        Raises:
            Rejection: The id was used with other content, or a decision names an
                approval that is not known.
        """
        log = await self._find(Scope(ScopeKind.REQUEST, options.identity, "", options.request_id))
        log.users += 1
        try:
            await self._check(log, options, requests)
        except BaseException:
            self.close(log)
            raise
        return log

    async def _check(
        self, log: Log, options: BatchOptions, requests: Sequence[ToolCall] | None
    ) -> None:
        if unknown := sorted(set(options.approvals) - log.approval_ids()):
            raise Rejection(
                RejectionReason.APPROVAL_UNKNOWN,
                f"approvals: {unknown[0]!r} is no approval_id of this request, or no longer. "
                "Nothing was run; make the calls anew.",
                "approvals",
            )
        digest = _header_digest(options)
        if log.digest not in (b"", digest):
            raise _reused("other options")
        if requests is not None:
            self.seal(log, len(requests))
            entries = log.entries
            for index, request in enumerate(requests):
                entry = entries.get(index)
                if entry is not None and entry.digest != call_digest(request):
                    raise _reused(f"another call @{index + 1}")
                if index % _STRIDE == _STRIDE - 1:
                    await self._slices.breathe()
            for index, request in enumerate(requests):
                if index not in entries:
                    entries[index] = Entry(call_digest(request))
                    self._grow(log, _ENTRY_BYTES)
                if index % _STRIDE == _STRIDE - 1:
                    await self._slices.breathe()
        if not log.digest:
            log.digest = digest
            self._put_header(log)

    def seal(self, log: Log, call_count: int) -> None:
        """Takes note of how many calls a request has.

        Raises:
            Rejection: It had another number before.
        """
        if log.call_count not in (None, call_count) or any(i >= call_count for i in log.entries):
            raise _reused("another number of calls")
        if log.call_count is None:
            log.call_count = call_count
            if log.digest:
                self._put_header(log)

    def _put_header(self, log: Log) -> None:
        # The field that counts attempts of a call counts the calls of a batch.
        count = -1 if log.call_count is None else log.call_count
        self._put(log.scope, BATCH, Record(log.digest, attempts=count))

    def enter(self, log: Log, index: int, request: ToolCall) -> Entry:
        """The entry of a call, which is made where it is new.

        Raises:
            Rejection: Another call was sent with its index.
        """
        digest = call_digest(request)
        entry = log.entries.get(index)
        if entry is None:
            entry = log.entries[index] = Entry(digest)
            self._grow(log, _ENTRY_BYTES)
        elif entry.digest != digest:
            raise _reused(f"another call @{index + 1}")
        return entry

    def mint(self, options: BatchOptions, request_id: str) -> Log:
        """A log for a batch that came without an id; nobody can find it before `adopt`."""
        scope = Scope(ScopeKind.REQUEST, options.identity, "", request_id)
        return Log(scope, _header_digest(options), users=1)

    def adopt(self, log: Log) -> None:
        """Makes a log that was minted known under its id."""
        log.is_known = True
        self._grow(log, sum(entry.size for entry in log.entries.values()))
        self._remember(log)
        self._put_header(log)
        for index, entry in log.entries.items():
            self._put(log.scope, index, entry.record())

    async def load_keys(self, options: BatchOptions, requests: Sequence[ToolCall]) -> None:
        """Has what a store knows of the calls' idempotency keys at hand."""
        if self._store is None:
            return
        scopes = {_key_scope(options, request) for request in requests if request.idempotency_key}
        for scope in scopes:
            await self._find(scope)

    def key_log(self, options: BatchOptions, request: ToolCall, digest: bytes) -> Log:
        """The log of a call's idempotency key, with one entry; made where it is new.

        Args:
            options: What holds for the batch.
            request: The call.
            digest: Digest of its arguments, for a new entry.
        """
        scope = _key_scope(options, request)
        log = self._logs.get(scope)
        if log is None:
            log = Log(scope)
            log.used_ns = self._clock.now_ns()
            self._remember(log)
        if not log.entries:
            log.entries[0] = Entry(digest)
            self._grow(log, _ENTRY_BYTES)
        self._touch(log)
        return log

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
        self._grow(log, entry.size - before)
        if entry.started or entry.is_marked or entry.approval is not None:
            self._put(log.scope, index, entry.record())
        entry.is_marked = False

    async def mark_started(self, marks: Sequence[tuple[Log, int]]) -> bool:
        """Makes it durable that an attempt starts; False where that failed.

        Args:
            marks: Where the call is remembered: logs, and positions in them.
        """
        for log, index in marks:
            entry = log.entries[index]
            entry.started = entry.is_marked = True
            self._put(log.scope, index, entry.record())
        return self._store is None or await self._store.flush()

    async def flush(self) -> None:
        """Waits until what was kept is durable, as far as it can be."""
        if self._store is not None and not await self._store.flush():
            _log.error("results could not be stored; a restart would not remember them")

    def close(self, log: Log) -> None:
        """Ends the use of a log."""
        log.users -= 1
        self._touch(log)
        self._tidy()

    async def _find(self, scope: Scope) -> Log:
        """The log of a scope, from memory, from the store, or a new one."""
        while scope in self._loading:
            await asyncio.wait([self._loading[scope]])
        log = self._logs.get(scope)
        if log is None:
            log = await self._load(scope)
        self._touch(log)
        return log

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
                entry = log.entries[index] = Entry(
                    record.digest, record.started, record.outcome, record.attempts, record.approval
                )
                log.size += entry.size
        log.used_ns = self._clock.now_ns()
        return self._remember(log)

    def _remember(self, log: Log) -> Log:
        self._logs[log.scope] = log
        self._bytes += log.size
        self._tidy()
        return log

    def _touch(self, log: Log) -> None:
        log.used_ns = self._clock.now_ns()
        if log.scope in self._logs:
            self._logs.move_to_end(log.scope)

    def _grow(self, log: Log, size: int) -> None:
        log.size += size
        if log.scope in self._logs:
            self._bytes += size

    def _tidy(self) -> None:
        """Forgets what was not used for long, and what takes too much room."""
        oldest_ns = self._clock.now_ns() - self._retention_ns
        for scope, log in list(self._logs.items()):
            if log.used_ns > oldest_ns and self._bytes <= self._max_bytes:
                return
            if not log.users and not log.is_in_flight:
                del self._logs[scope]
                self._bytes -= log.size

    def _put(self, scope: Scope, index: int, record: Record) -> None:
        if self._store is not None:
            self._store.put(scope, index, record)


def _key_scope(options: BatchOptions, request: ToolCall) -> Scope:
    return Scope(ScopeKind.KEY, options.identity, request.name, request.idempotency_key)


def call_digest(request: ToolCall) -> bytes:
    """Digest of what makes a call what it is; its time is none of that."""
    parts = (request.id, request.name, request.arguments, request.idempotency_key)
    return _digest(*parts, *request.depends_on)


def _header_digest(options: BatchOptions) -> bytes:
    facts = (options.mode.value, options.on_failure.value, str(options.references))
    context = [text for item in sorted(options.context.items()) for text in item]
    return _digest(*facts, options.session_id, *context)


def arguments_digest(values: Arguments) -> bytes:
    """Digest of arguments; the order of keys does not matter."""
    return _digest(json.dumps(values, sort_keys=True, separators=(",", ":")))


def _digest(*texts: str) -> bytes:
    # Each with its length: otherwise texts could be cut elsewhere.
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(item), item) for item in data)).digest()[:16]


def _reused(what: str) -> Rejection:
    return Rejection(
        RejectionReason.REQUEST_ID_REUSED,
        f"request_id: it was used before, with {what}. Use a new one for other calls.",
        "request_id",
    )


def _outcome_unknown(name: str) -> Failure:
    return Failure(
        Reason.OUTCOME_UNKNOWN,
        f"The call of {name!r} was started in an earlier send, and nobody saw its end. It may "
        "have taken effect: find out before you call it again.",
        ExecutionState.UNKNOWN,
    )
