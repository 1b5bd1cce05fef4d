"""How calls that arrive one by one get into a plan, and what may start before the seal."""

from sidecall_server.core.call import BlockCause, Call, ToolCall
from sidecall_server.core.events import Queued
from sidecall_server.core.outcome import Failure, Reason
from sidecall_server.core.references import UnresolvedError
from sidecall_server.core.tool import Effects
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.engine import Engine
from sidecall_server.engine.intake import order_lanes, refuse_cycles


class ProtocolError(ValueError):
    """The client sent what the contract does not allow."""


class StreamIntake:
    """Feeds one batch.

    Calls of read-only tools start at once when what they refer to is known; the others,
    and those whose references point forward or name a tool, wait for the seal.

    Attributes:
        batch: The batch.
        sealed: Whether the turn was sealed.
    """

    def __init__(self, engine: Engine, batch: Batch) -> None:
        self._engine = engine
        self._slices = engine.slices
        self.batch = batch
        self.sealed = False
        self._unanswered = 0
        self._pending: dict[int, list[str]] = {}

    async def add(self, index: int, request: ToolCall) -> None:
        """Takes a call.

        Raises:
            ProtocolError: After the seal, or the index is taken or out of range.
            Rejection: An earlier send of the turn had another call there.
        """
        batch = self.batch
        if self.sealed:
            raise ProtocolError(f"call {index} came after the seal")
        if not 0 <= index < self._engine.limits.max_calls_per_batch:
            most = self._engine.limits.max_calls_per_batch
            raise ProtocolError(f"index {index} is not within 0 and {most - 1}")
        if index in batch.calls:
            raise ProtocolError(f"index {index} was sent twice")
        ledger = self._engine.ledger
        if request.idempotency_key and ledger.is_durable:
            await ledger.load_keys(batch.options, [request], batch.known.keys)
        if batch.log is not None:
            ledger.enter(batch.log, index, request)
        call = Call(index, request, batch.options, batch.observer, self._engine.clock.now_ns())
        batch.add((call,))
        batch.resolver.names.add(index, request.id, request.name)
        if call.outcome is not None:
            return
        ids = batch.resolver.ids(call)
        known = [self._arrived(call_id) for call_id in ids]
        if None in known or not self._may_start_early(request.name):
            # Linked at the seal: until then an id that is known may still be repeated.
            self._pending[index] = ids
            batch.held.add(index)
            self._report(call, BlockCause.SEAL)
            return
        dependencies = [position for position in known if position is not None]
        if dependencies:
            batch.edges[index] = dependencies
            self._report(call, BlockCause.REFERENCE)
        batch.apply(batch.plan.add(index, dependencies))

    async def seal(self, call_count: int) -> None:
        """Ends the turn: takes its order and starts what waited for it, in slices.

        Nothing that waited is started before the order of all is known. Where the batch is
        over or done meanwhile there is nothing left to start, and it returns.

        Raises:
            ProtocolError: A second seal, or calls are missing.
        """
        batch = self.batch
        if self.sealed:
            raise ProtocolError("the turn was sealed twice")
        if call_count != len(batch.calls) or any(i >= call_count for i in batch.calls):
            raise ProtocolError(f"the seal says {call_count} calls, {len(batch.calls)} were sent")
        if batch.log is not None:
            self._engine.ledger.seal(batch.log, call_count)
        self.sealed = True
        self._expect_answers(call_count)
        batch.seal()
        await self._link_pending()
        await order_lanes(batch, self._slices)
        for index in sorted(self._pending):
            if self._is_over:
                return
            dependencies, after = batch.edges.get(index, ()), batch.order.get(index, ())
            batch.apply(batch.plan.add(index, dependencies, after=after, hold=True))
            await self._slices.breathe()
        if self._is_over:
            return
        self._pending.clear()
        batch.apply(batch.plan.seal())
        await self._report_blocked()

    def _expect_answers(self, call_count: int) -> None:
        self._unanswered = call_count
        self._engine.answering.open_calls += call_count
        self._engine.leave_time_to_answer(self.batch)

    def answered(self) -> None:
        """Takes note that all results were sent, or that nobody takes them. Idempotent."""
        self._engine.answering.open_calls -= self._unanswered
        self._unanswered = 0

    @property
    def _is_over(self) -> bool:
        return self.batch.over is not None or self.batch.done.done()

    def cancel(self, index: int) -> None:
        """Cancels one call; one that is final or unknown is left as it is."""
        call = self.batch.calls.get(index)
        if call is not None:
            self.batch.give_up(call, Reason.CANCELLED, "The client cancelled the call.")

    def abandon(self, message: str) -> None:
        """Ends the turn: what has not started never does."""
        self.batch.cancel_waiting(Reason.CANCELLED, message)

    async def _link_pending(self) -> None:
        batch, resolver = self.batch, self.batch.resolver
        for index, ids in self._pending.items():
            if self._is_over:
                return
            found = resolver.dependencies(batch.calls[index], ids, resolver.names.find)
            if isinstance(found, Failure):
                batch.refused[index] = found
            elif found:
                batch.edges[index] = found
            await self._slices.breathe()
        for index, dependencies in (await refuse_cycles(batch, self._slices)).items():
            if index not in self._pending:
                batch.plan.unlink(index, dependencies)

    def _arrived(self, call_id: str) -> int | None:
        """Position of the call that an id means, if that call was sent."""
        try:
            position = self.batch.resolver.names.position(call_id)
        except UnresolvedError:
            return None
        return position if position in self.batch.calls else None

    def _may_start_early(self, name: str) -> bool:
        entry = self.batch.tools.get(name)
        if entry is None or entry.spec.effects is not Effects.READ_ONLY:
            return False
        # In a lane the emitted order holds, and earlier calls may still come. Nobody should
        # be asked about a call of a turn that breaks off.
        return entry.lane is None and not entry.spec.requires_approval

    def _report(self, call: Call, cause: BlockCause) -> None:
        batch = self.batch
        if batch.observer is not None:
            batch.observer(Queued(call.index, cause, batch.waiting_for(call)))

    async def _report_blocked(self) -> None:
        """Says what calls wait for that the seal did not start."""
        for _, call in sorted(self.batch.calls.items()):
            if call.outcome is None and not call.ready_ns:
                self._report(call, self._blocked_on(call))
            await self._slices.breathe()

    def _blocked_on(self, call: Call) -> BlockCause:
        batch = self.batch
        if any(batch.calls[i].outcome is None for i in batch.edges.get(call.index, ())):
            return BlockCause.REFERENCE
        return BlockCause.LANE if batch.waiting_for(call) else BlockCause.ORDER
