"""ListTools, GetCapabilities, health and reflection."""

import base64
import json
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.interaction.conftest import StartServing
from tests.support.batches import reason, rpc_status
from tests.support.serving import Serving, raw_unary
from tests.support.sidecar import free_address

from sidecall.v1 import tool_pb2, tool_service_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING


def page(**fields: object) -> tool_service_pb2.ListToolsRequest:
    return tool_service_pb2.ListToolsRequest(**fields)  # type: ignore[arg-type] # by name


async def test_pages_hold_each_tool_once_in_order(sidecar: Serving) -> None:
    whole = await sidecar.stub.ListTools(page())
    names: list[str] = []
    token = ""
    while True:
        part = await sidecar.stub.ListTools(page(page_size=7, page_token=token))
        assert part.revision == whole.revision
        names += [tool.name for tool in part.tools]
        token = part.next_page_token
        if not token:
            break
    assert names == sorted(names) == [tool.name for tool in whole.tools]
    assert not whole.next_page_token


async def test_pages_are_bounded_in_bytes(sidecar: Serving) -> None:
    long = {f"long_{number:03}": 20_000 for number in range(300)}
    sizes = {**long, "huge": 3_000_000, "last": 10}
    spec = [(name, "x" * size) for name, size in sizes.items()]
    sidecar.app.engine.registry.swap(
        replace(tool, spec=replace(tool.spec, name=name, description=text))
        for tool in sidecar.app.tools[:1]
        for name, text in spec
    )
    names: list[str] = []
    token = ""
    while True:
        part = await sidecar.stub.ListTools(page(page_token=token, page_size=1_000))
        assert len(part.tools) == 1 or part.ByteSize() < 1_100_000
        names += [tool.name for tool in part.tools]
        token = part.next_page_token
        if not token:
            break
    assert names == sorted(sizes)


async def test_a_tool_is_described(sidecar: Serving) -> None:
    tools = {tool.name: tool for tool in (await sidecar.stub.ListTools(page())).tools}
    one = tools["hold_impatient"]
    assert one.description.startswith("Waits at the gate, one call at a time")
    assert json.loads(one.input_schema)["required"] == ["gate", "name"]
    assert one.effects == tool_pb2.EFFECTS_NON_IDEMPOTENT
    assert one.health == tool_pb2.TOOL_HEALTH_AVAILABLE
    assert one.limits.max_concurrency == 1
    assert one.limits.queue_timeout.ToMilliseconds() == 100
    assert tools["echo"].effects == tool_pb2.EFFECTS_READ_ONLY


@pytest.mark.parametrize(
    "token", ["x", "garbage!", base64.urlsafe_b64encode(b"no position").decode(), "é", "9" * 9_999]
)
async def test_a_token_that_listing_did_not_make(sidecar: Serving, token: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.stub.ListTools(page(page_token=token))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(rpc_status(caught.value)) == "PAGE_TOKEN_INVALID"


async def test_a_negative_page_size(sidecar: Serving) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.stub.ListTools(page(page_size=-1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(rpc_status(caught.value)) == "REQUEST_INVALID"


async def test_tools_that_change_between_two_pages(sidecar: Serving) -> None:
    first = await sidecar.stub.ListTools(page(page_size=5))
    sidecar.app.engine.registry.swap(sidecar.app.tools[1:])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.stub.ListTools(page(page_size=5, page_token=first.next_page_token))
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert reason(rpc_status(caught.value)) == "TOOLS_CHANGED"
    again = await sidecar.stub.ListTools(page())
    assert again.revision != first.revision


async def test_capabilities_tell_the_limits_in_force(start_sidecar: StartServing) -> None:
    sidecar: Serving = await start_sidecar(max_calls_per_batch=7, timeout_s="3s")
    told = await sidecar.stub.GetCapabilities(tool_service_pb2.GetCapabilitiesRequest())
    assert told.max_calls_per_batch == 7
    assert told.default_attempt_timeout.ToSeconds() == 3
    assert list(told.api_versions) == ["v1"]
    assert {"stream_batch", "references"} <= set(told.features)


@pytest.mark.parametrize(
    "service", ["", "sidecall.v1.ToolService", "startup", "readiness", "liveness"]
)
async def test_health(sidecar: Serving, service: str) -> None:
    health = health_pb2_grpc.HealthStub(sidecar.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == SERVING


async def test_health_of_an_unknown_service(sidecar: Serving) -> None:
    health = health_pb2_grpc.HealthStub(sidecar.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_on_an_address_of_its_own(start_sidecar: StartServing) -> None:
    address = free_address()
    await start_sidecar(health_listen=address)
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw_unary(channel, "/sidecall.v1.ToolService/ListTools")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_describes_the_service(sidecar: Serving) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(sidecar.channel)
    request = reflection_pb2.ServerReflectionRequest
    stream = stub.ServerReflectionInfo(
        iter([request(list_services=""), request(file_containing_symbol="sidecall.v1.ToolService")])
    )
    answers = [answer async for answer in stream]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {"sidecall.v1.ToolService", "grpc.health.v1.Health"} <= names
    assert b"ExecuteBatch" in answers[1].file_descriptor_response.file_descriptor_proto[0]
