"""ExecuteBatch: a request in, one result per call out."""

from sidecall.v1 import tool_service_pb2
from sidecall_server.core.rejection import Rejection
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.bugs import internal_error
from sidecall_server.engine.engine import Engine
from sidecall_server.transport.requests import Peer, batch_options, tool_calls
from sidecall_server.transport.results import batch_response, failed_response


async def serve_batch(
    engine: Engine, request: tool_service_pb2.ExecuteBatchRequest, peer: Peer
) -> tool_service_pb2.ExecuteBatchResponse:
    """Runs a batch and answers it.

    Raises:
        Rejection: The batch was not accepted; no call was started.
    """
    engine.check_accepting()
    options = batch_options(request, engine.limits, engine.clock.now_ns(), peer)
    calls = await tool_calls(
        request.calls, engine.limits, engine.slices, options.max_response_bytes
    )
    batch: Batch | None = None
    try:
        batch = await engine.execute(calls, options)
        return await batch_response(batch, calls, engine.slices)
    except Rejection:
        raise
    except Exception:
        # An RPC that fails would say that no call was started.
        return failed_response(batch, calls, internal_error("answering a batch"))
