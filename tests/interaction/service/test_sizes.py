"""Large batches and large results, for a client that sets no options (4 MiB)."""

import grpc
import pytest
from tests.interaction.conftest import StartServing
from tests.support.batches import batch, call, reason, reasons, rpc_status
from tests.support.serving import Serving, stub_of

CLIENT_BYTES = 4 * 1024 * 1024
RESULT_BYTES = 5_000_000


async def test_ten_thousand_calls(sidecar: Serving) -> None:
    results = await sidecar.run(
        *[call("echo", {"text": str(number)}, id=f"call_{number}") for number in range(10_000)]
    )
    assert [result.content for result in results] == [str(number) for number in range(10_000)]


async def test_ten_thousand_failures(sidecar: Serving) -> None:
    arguments = {"city": 1, "count": "x" * 200, "unit": "kelvin"}
    results = await sidecar.run(*[call("strict", arguments) for _ in range(10_000)])
    assert set(reasons(results)) == {"ARGUMENTS_INVALID"}


async def test_one_result_of_five_megabytes(sidecar: Serving) -> None:
    big, small = await sidecar.run(
        call("big", {"size": RESULT_BYTES}), call("echo", {"text": "small"})
    )
    assert reason(big.status) == "OK"
    assert big.truncated
    assert "bytes cut" in big.content
    assert big.content.startswith("x")
    assert big.content.endswith("x")
    assert len(big.content) > 3_000_000
    assert (small.content, small.truncated) == ("small", False)


async def test_one_result_of_five_megabytes_for_a_client_that_takes_it(sidecar: Serving) -> None:
    options = [("grpc.max_receive_message_length", 16 * 1024 * 1024)]
    async with grpc.aio.insecure_channel(sidecar.address, options=options) as channel:
        response = await stub_of(channel).ExecuteBatch(
            batch(call("big", {"size": RESULT_BYTES}), max_response_bytes=8_000_000)
        )
    assert len(response.results[0].content) == RESULT_BYTES
    assert not response.results[0].truncated


async def test_many_large_results_share_the_budget(sidecar: Serving) -> None:
    results = await sidecar.run(
        *[call("big", {"size": 1_000_000}) for _ in range(8)], call("echo", {"text": "small"})
    )
    assert reasons(results) == ["OK"] * 9
    assert all(result.truncated for result in results[:8])
    assert len({len(result.content) for result in results[:8]}) == 1
    assert results[8].content == "small"


async def test_the_budget_counts_bytes_not_characters(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("big", {"size": 1_000_000, "letter": "\U0001f600"}))
    assert result.truncated
    assert set(result.content.replace("\U0001f600", "")) <= set("\n[... 0123456789ofbytescut]")


async def test_a_budget_of_the_request(sidecar: Serving) -> None:
    response = await sidecar.stub.ExecuteBatch(
        batch(*[call("big", {"size": 50_000}) for _ in range(4)], max_response_bytes=20_000)
    )
    assert response.ByteSize() <= 20_000
    assert all(result.truncated for result in response.results)


async def test_references_read_the_uncut_value(sidecar: Serving) -> None:
    big, copy = await sidecar.run(
        call("big", {"size": RESULT_BYTES}),
        call("length", {"text": "$ref:@1"}),
    )
    assert big.truncated
    assert copy.content == str(RESULT_BYTES)


async def test_a_tool_error_of_five_megabytes(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("fail_at_length", {"size": RESULT_BYTES}))
    assert reason(result.status) == "TOOL_FAILED"
    assert result.truncated
    assert len(result.status.message) < 2_000


async def test_ids_that_leave_results_no_room_are_refused(sidecar: Serving) -> None:
    calls = [call("echo", {"text": "a"}, id=f"{number:0500}") for number in range(10_000)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.run(*calls)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(rpc_status(caught.value)) == "REQUEST_INVALID"
    assert len(await sidecar.run(*calls[:1_000])) == 1_000


async def test_the_bytes_of_ids_count_not_their_characters(sidecar: Serving) -> None:
    ids = [f"{number:04}" + "\U0001f600" * 1_000 for number in range(300)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.run(*[call("echo", {"text": "a"}, id=call_id) for call_id in ids])
    assert reason(rpc_status(caught.value)) == "REQUEST_INVALID"
    (result,) = await sidecar.run(call("echo", {"text": "a"}, id="\U0001f600" * 16_000))
    assert result.content == "a"


async def test_a_request_over_the_limit_is_refused(start_sidecar: StartServing) -> None:
    sidecar = await start_sidecar(max_message_bytes=1_000_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.run(call("echo", {"text": "x" * 1_000_001}))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    (result,) = await sidecar.run(call("echo", {"text": "x" * 900_000}))
    assert len(result.content) == 900_000


async def test_a_request_of_five_megabytes_is_taken(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("length", {"text": "x" * RESULT_BYTES}))
    assert result.content == str(RESULT_BYTES)
