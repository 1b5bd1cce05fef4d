"""A strict fake of what hosts attach to, and hosts that are attached to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.support.fake_tool_host_service import FakeAttachment, FakeToolHostService

from sidecall import ToolHost, tool
from sidecall._tool import Tool

Attach = Callable[..., Awaitable[FakeAttachment]]


@pytest.fixture
async def service() -> AsyncIterator[FakeToolHostService]:
    """What hosts attach to; it fails where one breaks the protocol."""
    async with FakeToolHostService() as service:
        yield service


@pytest.fixture
async def attach(service: FakeToolHostService) -> AsyncIterator[Attach]:
    """Attaches hosts of functions or tools; `await attach(function, max_concurrency=1)`."""
    async with AsyncExitStack() as stack:

        async def start(*functions: Any, **options: Any) -> FakeAttachment:
            tools = [item if isinstance(item, Tool) else tool(item) for item in functions]
            options = {"drain_timeout": 0.2, "endpoint": service.endpoint, **options}
            await stack.enter_async_context(ToolHost(tools, **options))
            return await service.attachment()

        yield start
