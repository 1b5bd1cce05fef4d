"""ExecuteBatch: a request in, one result per call out."""

from sidecall.v1 import tool_service_pb2
from sidecall_server.core.call import ToolCall
from sidecall_server.core.rejection import Rejection
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.bugs import internal_error
from sidecall_server.engine.engine import Engine
from sidecall_server.engine.slices import Slices
from sidecall_server.transport.requests import Peer, batch_options, tool_calls
from sidecall_server.transport.results import batch_response, failed_response
from sidecall_server.transport.schedule import fill_schedule

_LET_GO_STRIDE = 256


async def serve_batch(
    engine: Engine, request: tool_service_pb2.ExecuteBatchRequest, peer: Peer
) -> tool_service_pb2.ExecuteBatchResponse:
    """Runs a batch and answers it.

    Raises:
        Rejection: The batch was not accepted; no call was started.
    """
    # What may be known has to be looked at first: known batches are served until the end.
    engine.check_accepting(is_known=bool(request.request_id))
    options = batch_options(request, engine.limits, engine.clock.now_ns(), peer)
    calls = await tool_calls(
        request.calls, engine.limits, engine.slices, options.max_response_bytes
    )
    batch: Batch | None = None
    engine.answering.open_calls += len(request.calls)
    try:
        batch = await engine.execute(calls, options)
        response = await batch_response(batch, calls, engine.slices)
        response.request_id = batch.request_id
        fill_schedule(response.schedule, batch)
    except Rejection:
        raise
    except Exception:
        # An RPC that fails would say that no call was started.
        return failed_response(batch, calls, internal_error("answering a batch"))
    finally:
        engine.answering.open_calls -= len(request.calls)
    await _let_go(batch, calls, engine.slices)
    return response


async def _let_go(batch: Batch, calls: list[ToolCall], slices: Slices) -> None:
    """Frees a batch bit by bit: all at once, a large one keeps the event loop for 10 ms."""
    while len(calls) > _LET_GO_STRIDE:
        del calls[-_LET_GO_STRIDE:]
        for index in range(len(calls), len(calls) + _LET_GO_STRIDE):
            batch.calls.pop(index, None)
        await slices.breathe()
