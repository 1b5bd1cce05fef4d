"""Asks humans about the calls of a turn that wait for them."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sidecall.chat.events import ApprovalDecided, ApprovalRequested, Emitter
from sidecall.chat.services import Services
from sidecall.v1.execution_pb2 import Approval, ToolResult

ApprovalHook = Callable[[ApprovalRequested], Awaitable[Approval | None] | Approval | None]
"""Asks a human about one call and returns what `approve` or `reject` makes of it; None
leaves the question open. Several calls are asked about at once where it is a coroutine
function, which it must not be in a SyncChatLoop; a blocking one keeps its event loop
from everything else.

What it raises leaves its own call undecided, so that it does not run. Decisions on other
calls take effect all the same; then the error ends the chat."""


class Questions:
    """The questions about some calls of a turn, all asked at the same time.

    Args:
        hook: Asks.
        turn: Number of the model turn.
        pending: Results of the calls that wait, by index.
        emit: Is told of questions and decisions.
        services: What runs several coroutines.
        request_id: Id of the batch that asked.

    Attributes:
        approvals: The decisions so far, by index of the call.
        errors: What the hook, or who watches, raised.
    """

    def __init__(
        self,
        hook: ApprovalHook,
        turn: int,
        pending: Mapping[int, ToolResult],
        emit: Emitter,
        services: Services,
        request_id: str,
    ) -> None:
        self.approvals: dict[int, Approval] = {}
        self.errors: list[Exception] = []
        self._hook = hook
        self._emit = emit
        self._services = services
        self._requests = [
            ApprovalRequested(
                turn=turn,
                index=index,
                call_id=result.call_id,
                tool_name=result.name,
                arguments=result.approval_arguments,
                approval_id=result.approval_id,
                request_id=request_id,
            )
            for index, result in pending.items()
        ]

    async def ask(self) -> None:
        """Asks all of them and waits for the answers."""
        for request in self._requests:
            await self._emit(request)
        waiting = []
        for request in self._requests:
            try:
                answer = self._hook(request)
            except Exception as error:
                self.errors.append(error)
                continue
            if inspect.isawaitable(answer):
                waiting.append(self._wait(request, answer))
            else:
                await self._take(request, answer)
        if waiting:
            await self._services.wait_for_all(waiting)

    async def _wait(self, request: ApprovalRequested, answer: Awaitable[Approval | None]) -> None:
        try:
            decision = await answer
        except Exception as error:
            self.errors.append(error)
            return
        await self._take(request, decision)

    async def _take(self, request: ApprovalRequested, decision: Any) -> None:
        try:
            if decision is not None:
                self.approvals[request.index] = _checked(request, decision)
            await self._emit(ApprovalDecided(request.turn, request.index, decision))
        except Exception as error:
            self.errors.append(error)


def _checked(request: ApprovalRequested, decision: Any) -> Approval:
    if not isinstance(decision, Approval):
        raise TypeError(
            f"an approve hook returns what approve() or reject() makes, or None; not {decision!r}"
        )
    if decision.approval_id != request.approval_id:
        raise ValueError("an approve hook decides on the call that it was asked about")
    return decision
