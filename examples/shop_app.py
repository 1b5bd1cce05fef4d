"""An application that offers functions of its own process as tools.

    sidecall serve --tools examples/city_tools.py
    python examples/shop_app.py
    sidecall call find_order '{"order_id": "A-17"}'

It attaches to SIDECALL_ENDPOINT (by default 127.0.0.1:50071), attaches again when the sidecar
was restarted, and finishes its calls before it ends on SIGTERM or Ctrl-C.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

from sidecall import ToolContext, ToolError, ToolHost, lifespan, tool

Orders = dict[str, dict[str, object]]


@lifespan
async def orders() -> AsyncIterator[Orders]:
    """Opens what the tools share: here a dictionary, elsewhere a pool of connections."""
    yield {"A-17": {"item": "teapot", "state": "shipped"}}


@tool(effects="read_only", timeout="5s")
async def find_order(order_id: str, context: ToolContext) -> dict[str, object]:
    """Finds an order by its id."""
    found: Orders = context.state
    if order_id not in found:
        raise ToolError(f"There is no order {order_id!r}.", code="NOT_FOUND")
    return found[order_id]


@tool(effects="idempotent", lane="order:{order_id}")
async def cancel_order(order_id: str, context: ToolContext) -> str:
    """Cancels an order that was not shipped yet."""
    order = await find_order(order_id, context)
    context.progress(1, 2, "asking the warehouse")
    await asyncio.sleep(0.1)
    if order["state"] == "shipped":
        raise ToolError("The order was shipped already.", code="FAILED_PRECONDITION")
    order["state"] = "cancelled"
    return "cancelled"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    ToolHost([find_order, cancel_order], name="shop", lifespan=orders).run()
