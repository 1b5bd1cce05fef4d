"""The example of a host, as it stands."""

import asyncio
import sys
from pathlib import Path

from tests.interaction.conftest import StartProcess
from tests.support.batches import reasons

from sidecall import AsyncClient

EXAMPLE = Path(__file__).parents[3] / "examples" / "shop_app.py"
WAIT_S = 30.0


async def test_the_shop_serves_its_orders(start_process: StartProcess) -> None:
    sidecar = start_process("unix")
    shop = await asyncio.create_subprocess_exec(
        *(sys.executable, EXAMPLE), env={"SIDECALL_ENDPOINT": sidecar.address}
    )
    try:
        async with AsyncClient(sidecar.address) as client:
            async with asyncio.timeout(WAIT_S):
                while "find_order" not in {t.name for t in await client.list_tools()}:  # noqa: ASYNC110  polled by clients too
                    await asyncio.sleep(0.01)
            results = await client.execute_batch(
                [
                    {"name": "find_order", "arguments": {"order_id": "A-17"}},
                    {"name": "find_order", "arguments": {"order_id": "A-18"}},
                    {"name": "cancel_order", "arguments": {"order_id": "A-17"}},
                ]
            )
        assert results[0].content == '{"item":"teapot","state":"shipped"}'
        assert reasons(results) == ["OK", "TOOL_FAILED", "TOOL_FAILED"]
        shop.terminate()
        async with asyncio.timeout(WAIT_S):
            assert await shop.wait() == 0
    finally:
        if shop.returncode is None:
            shop.kill()
            await shop.wait()
