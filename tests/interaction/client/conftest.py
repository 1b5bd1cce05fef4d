"""Both clients, called in the same way, and a fake service for them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.fake_tool_service import FakeTool, FakeToolService

from sidecall import AsyncClient, Client


async def echo(arguments: dict[str, Any]) -> str:
    return str(arguments.get("text", ""))


@pytest.fixture
async def service() -> AsyncIterator[FakeToolService]:
    tools = {name: FakeTool(echo) for name in ("a", "b", "c", "d", "e")}
    async with FakeToolService(tools) as service:
        yield service


class AnyClient:
    """Either client, called in the same way."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        bound = getattr(self.client, method)
        if isinstance(self.client, AsyncClient):
            return await bound(*args, **kwargs)
        return await asyncio.to_thread(bound, *args, **kwargs)


@pytest.fixture(params=["sync", "async"])
async def call(request: Any, service: FakeToolService) -> AsyncIterator[AnyClient]:
    if request.param == "sync":
        with Client(service.endpoint, metadata=[("x-tenant", "t1")]) as client:
            yield AnyClient(client)
    else:
        async with AsyncClient(service.endpoint, metadata=[("x-tenant", "t1")]) as aio_client:
            yield AnyClient(aio_client)
