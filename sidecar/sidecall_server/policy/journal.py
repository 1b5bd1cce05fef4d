"""Starts that are durable before they happen, so that a crash makes no effect happen twice."""

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import Outcome, Reason, not_started
from sidecall_server.core.ports import BoundTool, Handler, Layer
from sidecall_server.core.tool import Effects


def journal_layer(tool: BoundTool) -> Layer | None:
    """Has attempts of remembered calls wait until the store says that they start.

    None for tools that may be run again anyway. Where the store fails the tool is not
    started: after a crash nobody could tell that it had been.
    """
    if tool.spec.effects is not Effects.NON_IDEMPOTENT:
        return None

    def wrap(handler: Handler) -> Handler:
        async def handle(call: Call) -> Outcome:
            mark_started = call.mark_started
            if mark_started is not None:
                call.prepare()
                if not await mark_started():
                    call.take_back()
                    return not_started(
                        Reason.TOOL_UNAVAILABLE,
                        f"Not run: the sidecar cannot store that {call.request.name!r} starts, and "
                        "without that it must not.",
                    )
                call.restart_clock()
            return await handler(call)

        return handle

    return wrap
