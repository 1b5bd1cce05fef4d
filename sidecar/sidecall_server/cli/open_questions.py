"""Questions that a chat leaves open, and how to decide on them later."""

import json
from collections.abc import Sequence

from sidecall import BatchResults, ToolCall, ToolResult, pending_approvals
from sidecall.chat import (
    ApprovalRequested,
    CallFinished,
    CallReady,
    ChatEvent,
    TurnFinished,
    TurnStarted,
)
from sidecall_server.cli.decisions import Sent, ask
from sidecall_server.cli.output import console, counted, write_raw

_FILE = "calls.json"


class OpenQuestions:
    """Tells at the end of each turn which calls still wait for a person; a hook for the chat.

    Args:
        endpoint: The sidecar; None where it is another one.
        tools: Tools of a sidecar that ends with this command; empty where it does not.
    """

    def __init__(self, endpoint: str | None, tools: Sequence[str]) -> None:
        self._endpoint = endpoint
        self._tools = tools
        self._calls: dict[int, ToolCall] = {}
        self._results: dict[int, ToolResult] = {}
        self._request_id = ""

    def __call__(self, event: ChatEvent) -> None:
        """Takes note of an event."""
        match event:
            case TurnStarted():
                self._calls.clear()
                self._results.clear()
                self._request_id = ""
            case CallReady():
                self._calls[event.index] = event.call
            case ApprovalRequested():
                self._request_id = event.request_id
            case CallFinished():
                self._results[event.index] = event.result
            case TurnFinished():
                self._tell()

    def _tell(self) -> None:
        results = [self._results[index] for index in sorted(self._results)]
        pending = pending_approvals(results)
        if not pending or not self._request_id:
            return
        if self._tools:
            console().print(
                f"{counted(len(pending), 'call')} left open: with --tools the questions are gone "
                "with this command; to decide later, start a sidecar (sidecall serve --tools FILE) "
                "and chat with --endpoint",
                soft_wrap=True,
            )
            return
        console().print(f"\nTo decide later, save the turn's calls as {_FILE}:")
        write_raw(json.dumps([_written(call) for _, call in sorted(self._calls.items())]))
        ask(
            Sent(_FILE, (), (), {"endpoint": self._endpoint}),
            BatchResults(results, self._request_id),
        )


def _written(call: ToolCall) -> dict[str, str]:
    # The text of the arguments as it was sent: with other calls the request is refused.
    return {"id": call.id, "name": call.name, "arguments": call.arguments}
