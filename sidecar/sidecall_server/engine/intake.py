"""How the calls of a batch that is known as a whole get into its plan."""

from collections.abc import Iterable, Sequence

from sidecall_server.core.call import Arguments, Call, Mode, OnFailure, ToolCall
from sidecall_server.core.cycles import find_cyclic
from sidecall_server.core.lane_order import LaneOrder
from sidecall_server.core.outcome import Failure, Reason, not_started
from sidecall_server.core.references import may_hold_references
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.lane_members import LaneMembers
from sidecall_server.engine.slices import Slices

_STRIDE = 64
"""Calls between two looks at the clock."""


async def take_in(batch: Batch, requests: Sequence[ToolCall], slices: Slices) -> None:
    """Plans all calls of a batch and makes ready those that wait for nothing.

    Nothing is started before all calls are known. A batch that is over meanwhile gets its
    calls, which end at once, and nothing more is done for it.
    """
    batch.hold_open()
    try:
        linked = await _add(batch, requests, slices)
    finally:
        batch.let_go()
    if linked:
        await _link(batch, linked, slices)
    await order_lanes(batch, slices)
    if batch.over is not None:
        return
    options = batch.options
    batch.independent |= (
        not batch.edges
        and not batch.order
        and (options.mode is Mode.PARALLEL and options.on_failure is OnFailure.CONTINUE)
    )
    batch.seal()
    if batch.independent:
        await _make_each_ready(batch, slices)
    else:
        step = batch.plan.add_all(len(requests), batch.edges, batch.order)
        for count, index in enumerate(step.ready):
            batch.make_ready(batch.calls[index])
            if count % _STRIDE == _STRIDE - 1 or linked:
                await slices.breathe()
    batch.start_ready()


async def _add(batch: Batch, requests: Sequence[ToolCall], slices: Slices) -> list[Call]:
    """Adds all calls; returns those that may wait for others."""
    linked: list[Call] = []
    options, observer, received_ns = batch.options, batch.observer, batch.received_ns
    references = options.references
    for start in range(0, len(requests), _STRIDE):
        if start:
            await slices.breathe()
        calls = [
            Call(index, request, options, observer, received_ns)
            for index, request in enumerate(requests[start : start + _STRIDE], start)
        ]
        batch.add(calls)
        for call in calls:
            request = call.request
            if request.depends_on or (references and may_hold_references(request.arguments)):
                linked.append(call)
    return linked


async def _make_each_ready(batch: Batch, slices: Slices) -> None:
    """Makes ready all calls of a batch where none concerns another one."""
    calls = list(batch.calls.values())
    hurried = batch.log is None and batch.observer is None
    stride = _STRIDE
    if batch.resolver.values or batch.refused:
        hurried, stride = False, 1
    for start in range(0, len(calls), stride):
        if start:
            await slices.breathe()
        if hurried:
            _make_ready(batch, calls[start : start + stride])
        else:
            for call in calls[start : start + stride]:
                batch.make_ready(call)


def _make_ready(batch: Batch, calls: Iterable[Call]) -> None:
    """As `Batch.make_ready`, for the calls of most batches, in one loop."""
    host, flows = batch.host, batch.flows
    now_ns, submit, watchdog = host.clock.now_ns, host.admission.submit, host.watchdog
    for call in calls:
        flow = flows.get(call.request.name)
        if flow is None or not flow.entry.is_plain or call.request.idempotency_key:
            batch.make_ready(call)
            continue
        entry, queue = flow.entry, flow.entry.queue
        if call.outcome is not None or batch.over is not None or queue.count >= queue.max_calls:
            batch.make_ready(call)
            continue
        call.ready_ns = ready_ns = now_ns()
        try:
            failure = entry.arguments.admit(call, None)
        except Exception:
            batch.fail(call)
            continue
        if failure is not None:
            batch.finish(call, failure, ready_ns)
        elif entry.is_governed:
            host.admit(batch, flow, call)
        else:
            if ready_ns + entry.queue_timeout_ns < watchdog.wake_ns:
                batch.watch_queue(flow, ready_ns)
            submit(flow, call)


async def _link(batch: Batch, linked: list[Call], slices: Slices) -> None:
    """Finds the edges between calls; a call that is refused has none and fails at its turn."""
    names, resolver = batch.resolver.names, batch.resolver
    for call in batch.calls.values():
        names.add(call.index, call.request.id, call.request.name)
        if call.index % _STRIDE == _STRIDE - 1:
            await slices.breathe()
    for call in linked:
        if batch.over is not None:
            return
        ids = resolver.ids(call)
        if ids:
            dependencies = resolver.dependencies(call, ids, names.find)
            if isinstance(dependencies, Failure):
                batch.refused[call.index] = dependencies
            elif dependencies:
                batch.edges[call.index] = dependencies
        await slices.breathe()
    await refuse_cycles(batch, slices)


async def order_lanes(batch: Batch, slices: Slices) -> None:
    """Finds out which calls come after which because they share a lane.

    Calls whose order takes too much work to find are refused.
    """
    if not batch.tools.laned:
        return
    calls = [
        call for _, call in sorted(batch.calls.items()) if call.request.name in batch.tools.laned
    ]
    if not calls:
        return
    lanes = batch.lanes = LaneMembers()
    ordered = await _take_members(batch, calls, lanes, slices)
    order = LaneOrder(len(batch.calls), batch.edges)
    for _ in order.prepare():
        if batch.over is not None:
            return
        await slices.breathe()
    for call in ordered:
        if batch.over is not None:
            return
        if order.is_exhausted:
            batch.refused.setdefault(call.index, _entangled(call))
        elif after := lanes.predecessors(call.index, order):
            batch.order[call.index] = after
        await slices.breathe()


async def _take_members(
    batch: Batch, calls: Iterable[Call], lanes: LaneMembers, slices: Slices
) -> list[Call]:
    """Finds the lanes of calls; returns those calls that must come in order."""
    ordered: list[Call] = []
    for call in calls:
        if batch.over is not None:
            break
        values = lanes.add(call, batch.tools[call.request.name])
        if call.outcome is not None:
            lanes.ended(call, call.outcome)
        if not _is_hopeless(batch, call, values):
            ordered.append(call)
        await slices.breathe()
    return ordered


def _is_hopeless(batch: Batch, call: Call, values: Arguments | None) -> bool:
    """Whether a call fails whatever the others do, so that it need not wait for its lane.

    With STOP its failure counts at its turn.
    """
    if batch.options.on_failure is OnFailure.STOP or call.index in batch.edges:
        return False
    if call.index in batch.refused or values is None:
        return True
    if call.index in batch.resolver.values:
        return False
    return batch.tools[call.request.name].arguments.check(values) is not None


def _entangled(call: Call) -> Failure:
    return not_started(
        Reason.REFERENCE_UNRESOLVED,
        f"Not run: too many references of the turn point forward for {call.request.name!r}, "
        "whose calls run in order, to find the order. Make the calls in several turns.",
    )


async def refuse_cycles(batch: Batch, slices: Slices) -> dict[int, list[int]]:
    """Refuses the calls that wait for themselves; takes their edges away and returns them."""
    members: set[int] = set()
    for _ in find_cyclic(batch.edges, members):
        if batch.over is not None:
            return {}
        await slices.breathe()
    for index in members:
        others = ", ".join(f"@{d + 1}" for d in batch.edges[index] if d in members)
        batch.refused[index] = not_started(
            Reason.REFERENCE_CYCLE,
            f"Not run: the call @{index + 1} waits for itself, through {others}. "
            "Make the calls in two turns, or remove a reference.",
        )
    return {index: batch.edges.pop(index) for index in members}
