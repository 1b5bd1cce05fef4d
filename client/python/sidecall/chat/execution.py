"""Runs the calls of one turn: once, or again after decisions and lost connections."""

import time
import uuid
from collections.abc import Iterable, Sequence

from sidecall._approvals import pending_approvals
from sidecall._batch_results import BatchResults
from sidecall._durations import optional_duration_s
from sidecall._requests import ExecuteOptions
from sidecall._results import reason_of
from sidecall._retry import is_transient
from sidecall._rpc_errors import SidecallError
from sidecall.chat import text
from sidecall.chat.approvals import Questions
from sidecall.chat.early import EarlyCalls
from sidecall.chat.events import CallFinished, Emitter
from sidecall.chat.history import TurnRecord
from sidecall.chat.options import ChatOptions
from sidecall.chat.services import Services
from sidecall.chat.turn_calls import TurnCalls
from sidecall.v1.execution_pb2 import (
    EXECUTION_STATE_NOT_STARTED,
    Approval,
    ToolResult,
)


def new_request_id() -> str:
    """Makes a request_id."""
    return uuid.uuid4().hex


class TurnExecution:
    """Runs the calls of one turn and fills the turn's record with their results.

    Args:
        turn: Number of the model turn.
        calls: The calls.
        record: Takes the results.
        options: Choices of the loop.
        services: What the loop needs from outside.
        emit: Is told of the final result of each call, once.
    """

    def __init__(
        self,
        turn: int,
        calls: TurnCalls,
        record: TurnRecord,
        options: ChatOptions,
        services: Services,
        emit: Emitter,
    ) -> None:
        self._turn = turn
        self._calls = calls
        self._record = record
        self._options = options
        self._services = services
        self._emit = emit
        self._timeout_s = optional_duration_s(options.batch_timeout)
        self._request_id = ""
        self._told: set[int] = set()

    async def run(self, early: EarlyCalls | None) -> None:
        """Runs the calls to their ends.

        Args:
            early: Their early start; None where there was none.

        Raises:
            SidecallError: An RPC failed.
            Exception: What the approve hook raised, once all other decisions are done.
        """
        if early is None or not await self._complete(early):
            await self._send(new_request_id() if self._options.resend else "")
        errors = await self._decide()
        await self._tell(self._record.results)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("the approve hook failed for several calls", errors)

    async def _complete(self, early: EarlyCalls) -> bool:
        """Ends an early start; returns whether all calls have their results."""
        end_s = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        try:
            if not await early.complete(self._calls, self._record):
                return False
        except SidecallError as error:
            # Nothing of an unsealed turn has taken effect: it is sent as a new batch. This one
            # may have, so it is sent again only where the sidecar can tell.
            if not (early.sent_to_instance and is_transient(error)):
                raise
            left_s = None if end_s is None else end_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise
            self._told = early.told
            await self._send(
                early.request_id, timeout_s=left_s, sent_to_instance=early.sent_to_instance
            )
            return True
        self._told = early.told
        self._request_id = early.request_id
        return True

    async def _send(
        self,
        request_id: str,
        approvals: Sequence[Approval] = (),
        timeout_s: float | None = None,
        sent_to_instance: str = "",
    ) -> None:
        options = ExecuteOptions()
        if sent_to_instance:
            options["sent_to_instance"] = sent_to_instance
        if request_id:
            options["request_id"] = request_id
        if approvals:
            options["approvals"] = approvals
        answered = await self._services.execute(
            self._calls.batch, options, timeout_s or self._timeout_s
        )
        self._request_id = answered.request_id
        self._adopt(answered)

    def _adopt(self, answered: BatchResults) -> None:
        for index, result in enumerate(answered):
            known = self._record.results.get(index)
            if known is not None and known.execution_state != EXECUTION_STATE_NOT_STARTED:
                if reason_of(result) == "OUTCOME_UNKNOWN":
                    continue  # The first send said more about it.
                if known.execution_state != result.execution_state:
                    self._told.discard(index)
            self._record.add_result(index, self._calls.settle(index, result))

    async def _decide(self) -> list[Exception]:
        """Has humans decide for as long as calls wait for them; returns what the hook raised."""
        hook = self._options.approve
        asked: set[str] = set()
        # Each round decides on a call for good, so there are no more rounds than calls.
        for _ in self._calls.batch:
            pending = {
                index: result
                for index, result in sorted(self._record.results.items())
                if pending_approvals([result]) and result.approval_id not in asked
            }
            if hook is None or not pending or not self._request_id:
                break
            await self._tell(self._started())
            asked.update(result.approval_id for result in pending.values())
            questions = Questions(
                hook, self._turn, pending, self._emit, self._services, self._request_id
            )
            await questions.ask()
            if questions.approvals:
                await self._send_decisions(questions.approvals)
            if questions.errors or not questions.approvals:
                return questions.errors
        return []

    async def _send_decisions(self, approvals: dict[int, Approval]) -> None:
        results = self._record.results
        released = [
            index
            for index, result in results.items()
            if result.execution_state == EXECUTION_STATE_NOT_STARTED
            and (index in approvals or not pending_approvals([result]))
        ]
        self._record.reopen(released)
        try:
            await self._send(self._request_id, list(approvals.values()))
        except SidecallError as error:
            if error.reason != "APPROVAL_UNKNOWN" or not error.not_started:
                raise
            for index in released:
                lost = index in approvals
                self._record.add_result(index, _lost(results[index]) if lost else results[index])

    def _started(self) -> Iterable[int]:
        """Calls whose results will not change any more."""
        return [
            index
            for index, result in self._record.results.items()
            if result.execution_state != EXECUTION_STATE_NOT_STARTED
        ]

    async def _tell(self, indexes: Iterable[int]) -> None:
        for index in sorted(set(indexes) - self._told):
            self._told.add(index)
            await self._emit(CallFinished(self._turn, index, self._record.results[index]))


def _lost(pending: ToolResult) -> ToolResult:
    """The result of a call that was decided on too late."""
    result = ToolResult()
    result.CopyFrom(pending)
    result.ClearField("approval_id")
    result.ClearField("approval_arguments")
    result.content = result.status.message = text.APPROVAL_LOST
    return result
