"""Runs chats."""

import asyncio
from typing import Any

import openai
from tests.conformance.python_runner.batches import options_of, seconds
from tests.conformance.python_runner.clients import HookError, client_of, error_of
from tests.conformance.python_runner.events import event_of

from sidecall import Approval, AsyncClient, ChatLoop, approve, reject
from sidecall.chat import ApprovalHook, ApprovalRequested, ChatEvent, ChatResult

Json = dict[str, Any]

_PLAIN = (
    "api",
    "stream",
    "early_start",
    "max_turns",
    "tools",
    "reference_hint",
    "attachments",
    "context",
    "session_id",
    "resend",
)


class Chats:
    """Runs one chat at a time."""

    def __init__(self) -> None:
        self._running: asyncio.Task[ChatResult] | None = None
        self._events: list[Json] = []
        self._cancel_after: Json = {}

    def cancel(self) -> None:
        """Cancels the run in hand."""
        if self._running is not None:
            self._running.cancel()

    async def run(self, request: Json) -> Json:
        """Runs the chat of a request."""
        model = request["model"]
        provider = openai.AsyncOpenAI(
            base_url=model["base_url"], api_key=model["api_key"], max_retries=0
        )
        async with client_of(request["sidecar"]) as client, provider:
            try:
                loop = self._loop_of(request, client, provider)
            except ValueError as error:
                refused = {"outcome": "error", "error": error_of(error)}
                return {"runs": [{**refused, "history": [], "events": []}]}
            return {"runs": [await self._run(loop, run) for run in request["runs"]]}

    def _loop_of(
        self, request: Json, client: AsyncClient, provider: openai.AsyncOpenAI
    ) -> ChatLoop:
        given = request.get("options", {})
        return ChatLoop(
            client,
            provider,
            model=request["model"]["name"],
            hooks=self._take,
            approve=_approval_hook(request["approvals"]) if "approvals" in request else None,
            batch_timeout=seconds(given.get("batch_timeout_ms")),
            batch_options=options_of(given.get("batch", {})),
            request_options=given.get("request", {}),
            **{name: given[name] for name in _PLAIN if name in given},
        )

    def _take(self, event: ChatEvent) -> None:
        told = event_of(event)
        self._events.append(told)
        wanted = self._cancel_after
        if wanted and told["event"] == wanted["event"]:
            seen = sum(each["event"] == wanted["event"] for each in self._events)
            if seen == wanted["count"]:
                self.cancel()

    async def _run(self, loop: ChatLoop, run: Json) -> Json:
        self._events, self._cancel_after = [], run.get("cancel_after", {})
        self._running = asyncio.create_task(loop.run(run["input"]))
        try:
            await asyncio.wait([self._running])
            told = _outcome_of(self._running)
        finally:
            self._running = None
        return {**told, "history": list(loop.history), "events": self._events}


def _outcome_of(finished: "asyncio.Task[ChatResult]") -> Json:
    if finished.cancelled():
        return {"outcome": "cancelled"}
    error = finished.exception()
    if error is not None:
        return {"outcome": "error", "error": error_of(error)}
    result = finished.result()
    usage = result.usage
    return {
        "outcome": "answer",
        "text": result.text,
        "refusal": result.refusal,
        "stopped_reason": result.stopped_reason,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
    }


def _approval_hook(rules: list[Json]) -> ApprovalHook:
    async def decide(asked: ApprovalRequested) -> Approval | None:
        for rule in rules:
            if rule["tool"] != asked.tool_name:
                continue
            if rule.get("call_id", asked.call_id) != asked.call_id:
                continue
            return _decision(rule, asked)
        return None

    return decide


def _decision(rule: Json, asked: ApprovalRequested) -> Approval | None:
    match rule["decision"]:
        case "approve":
            return approve(asked, by=rule.get("by", ""), arguments=rule.get("arguments"))
        case "reject":
            return reject(asked, by=rule.get("by", ""), comment=rule.get("comment", ""))
        case "fail":
            raise HookError(rule.get("comment", ""))
        case _:
            return None
