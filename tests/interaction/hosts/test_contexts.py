"""A tool knows the same about its call wherever it runs."""

import json
from pathlib import Path
from typing import Any

from tests.interaction.conftest import StartServing
from tests.interaction.hosts.context_tools import known

from sidecall import AsyncClient, ToolCall, ToolContext, ToolHost, tool

TOOLS = Path(__file__).with_name("context_tools.py")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
METADATA = [("traceparent", TRACE), ("tracestate", "vendor=1")]


@tool(timeout="20s")
async def tell_host(context: ToolContext) -> dict[str, Any]:
    """Tells it in an application."""
    return known(context)


async def test_what_tools_know(start_sidecar: StartServing) -> None:
    sidecar = await start_sidecar(tools=str(TOOLS))
    names = ["tell_coroutine", "tell_thread", "tell_process", "tell_host"]
    async with (
        ToolHost(tell_host, endpoint=sidecar.address) as host,
        AsyncClient(sidecar.address, metadata=METADATA) as client,
    ):
        await host.wait_until_attached()
        results = await client.execute_batch(
            [ToolCall(id=name, name=name, idempotency_key=f"key of {name}") for name in names],
            context={"user": "ada"},
        )
    for name, result in zip(names, results, strict=True):
        assert json.loads(result.content) == {
            "call_id": name,
            "attempt": 1,
            "idempotency_key": f"key of {name}",
            "context": {"user": "ada"},
            "traceparent": TRACE,
            "tracestate": "vendor=1",
            "remaining": True,
            "cancelled": False,
        }
