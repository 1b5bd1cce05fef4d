"""Executes one batch."""

from typing import Any, cast

from tests.conformance.python_runner.clients import client_of, error_of, result_of

from sidecall import Approval, AsyncClient, BatchResults, SidecallError, approve, reject
from sidecall._requests import ExecuteOptions

Json = dict[str, Any]


async def run_batch(request: Json) -> Json:
    """Executes the batch of a request."""
    calls = [_call_of(call) for call in request["calls"]]
    async with client_of(request["sidecar"]) as client:
        try:
            options = options_of(request.get("options", {}))
            results = await _execute(client, request, calls, options)
        except (SidecallError, ValueError, TypeError) as error:
            return {"outcome": "error", "error": error_of(error)}
    return {
        "outcome": "results",
        "results": [result_of(result) for result in results],
        "request_id": results.request_id,
    }


async def _execute(
    client: AsyncClient, request: Json, calls: list[Json], options: ExecuteOptions
) -> BatchResults:
    timeout_s = seconds(request.get("timeout_ms"))
    if not request.get("stream"):
        return await client.execute_batch(calls, timeout=timeout_s, **options)
    async with client.stream_batch(timeout=timeout_s, **options) as turn:
        for index, call in enumerate(calls):
            await turn.send(index, call)
        await turn.seal()
        return await turn.results()


def options_of(given: Json) -> ExecuteOptions:
    """Options of a batch."""
    options = cast("ExecuteOptions", dict(given))
    if "approvals" in given:
        options["approvals"] = [approval_of(each) for each in given["approvals"]]
    return options


def approval_of(given: Json) -> Approval:
    """A decision."""
    approval_id, by = given["approval_id"], given.get("by", "")
    if given["decision"] == "approve":
        return approve(approval_id, by=by, arguments=given.get("arguments"))
    return reject(approval_id, by=by, comment=given.get("comment", ""))


def seconds(milliseconds: float | None) -> float | None:
    """Seconds of milliseconds."""
    return None if milliseconds is None else milliseconds / 1000


def _call_of(given: Json) -> Json:
    call = dict(given)
    timeout_s = seconds(call.pop("timeout_ms", None))
    return call if timeout_s is None else {**call, "timeout": timeout_s}
