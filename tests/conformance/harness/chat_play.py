"""Plays one chat."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from tests.conformance.harness.bench import Bench
from tests.conformance.harness.cases import Case, Way
from tests.conformance.harness.faults import Fault
from tests.conformance.harness.matching import differences, fits, without_nulls
from tests.conformance.harness.models import ModelSide, Play, scripted
from tests.conformance.harness.outcomes import Outcome
from tests.conformance.harness.recordings import compare_recorded
from tests.conformance.harness.records import (
    comparable,
    model_requests,
    plain_items,
    sidecar_requests,
)
from tests.conformance.harness.runner import Runner

Json = dict[str, Any]

_CONTAINS = ("events", "no_events")


def sidecar_of(case: Case, bench: Bench) -> Json:
    """Where a case's sidecar is, as runners are told."""
    given = dict(case.data.get("sidecar", {}))
    match given.pop("endpoint", "tcp"):
        case "tcp":
            given["endpoint"] = bench.proxy.address
        case "socket":
            given["endpoint"] = bench.proxy.socket_address
        case "tls":
            assert bench.certificates is not None, "openssl is not here to make certificates"
            given["endpoint"] = bench.proxy.tls_address
            given["tls"] = bench.certificates.of_client()
        case "environment":
            pass
        case other:
            raise ValueError(f"there is no endpoint {other!r}")
    return given


async def play_chat(
    case: Case, way: Way, bench: Bench, runner: Runner, play: Play = scripted
) -> Outcome:
    """Plays a chat and compares what came of it."""
    bench.log.begin()
    bench.proxy.begin(Fault(**fault) for fault in case.data.get("faults", ()))
    async with play(case, way, bench) as model:
        signals = asyncio.create_task(_signal(case.data.get("signals", ()), bench, runner))
        try:
            answer = await runner.ask(_request(case, way, bench, model))
        finally:
            signals.cancel()
            await asyncio.wait([signals])
    await bench.proxy.until_idle()
    if "unsupported" in answer:
        return Outcome(case.name, way.name, (f"not supported: {answer['unsupported']}",))
    runs = without_nulls(answer["runs"])
    history = runs[-1]["history"] if runs else []
    recorded = {
        "history": history,
        "sidecar": sidecar_requests(bench.proxy.rpcs, case.path.read_text()),
    }
    if model.requests is not None:
        recorded["requests"] = model_requests(model.requests, history, stream=way.stream)
    recorded = comparable(recorded)
    simplify = None if model.requests is not None else plain_items
    problems = [*model.problems, *_check(case, runs, bench, model.requests is not None)]
    problems += compare_recorded(case, way, recorded, simplify)
    return Outcome(case.name, way.name, tuple(problems), recorded)


def _request(case: Case, way: Way, bench: Bench, model: ModelSide) -> Json:
    options: Json = {**way.options, **case.data.get("options", {})}
    if "tools" in case.data:
        options["tools"] = case.data["tools"]
    request: Json = {
        "kind": "chat",
        "sidecar": sidecar_of(case, bench),
        "model": {"base_url": model.base_url, "api_key": "conformance", "name": model.name},
        "options": options,
        "runs": case.data["runs"],
    }
    if "approvals" in case.data:
        request["approvals"] = case.data["approvals"]
    return request


async def _signal(signals: Iterable[Mapping[str, Any]], bench: Bench, runner: Runner) -> None:
    for signal in signals:
        await bench.log.until(signal["until_started"], count=signal.get("count", 1))
        if signal.get("cancel"):
            await runner.tell({"id": "cancel", "kind": "cancel"})
        for name in signal.get("release", ()):
            bench.log.release(name)


def _check(case: Case, runs: list[Json], bench: Bench, counted: bool) -> Iterable[str]:
    expected = case.data["expect"]
    # Another server counts tokens in its own way.
    ignored = (*_CONTAINS, *(() if counted else ("usage",)))
    if len(runs) != len(expected["runs"]):
        yield f"runs: expected {len(expected['runs'])}, got {len(runs)}"
    for number, (wanted, run) in enumerate(zip(expected["runs"], runs, strict=False)):
        where = f"runs[{number}]"
        plain = {key: value for key, value in wanted.items() if key not in ignored}
        yield from differences(plain, run, where, partly=True)
        if "error" in run and wanted["outcome"] != "error":
            yield f"{where}.error: {run['error']}"
        yield from _check_events(wanted, run["events"], f"{where}.events")
        yield from _check_story(run, f"{where}.events")
    yield from differences(expected.get("executed", {}), bench.log.counts("started"), "executed")
    if "cancelled" in expected:
        yield from differences(expected["cancelled"], bench.log.counts("cancelled"), "cancelled")
    for method, count in expected.get("rpcs", {}).items():
        actual = sum(rpc.method == method for rpc in bench.proxy.rpcs)
        yield from differences(count, actual, f"rpcs.{method}")


def _check_events(wanted: Json, events: list[Json], where: str) -> Iterable[str]:
    """Looks for the wanted events among those that came, in that order."""
    came = iter(events)
    for event in wanted.get("events", ()):
        if not any(fits(event, each, partly=True) for each in came):
            yield f"{where}: {event} did not come, or not in that order, among {events}"
            return
    for kind in wanted.get("no_events", ()):
        if any(event["event"] == kind for event in events):
            yield f"{where}: {kind} came"


def _check_story(run: Json, where: str) -> Iterable[str]:
    """Checks what holds for the events of every run that comes to an answer."""
    if run["outcome"] != "answer":
        return
    events = run["events"]
    turns = [event["turn"] for event in events if event["event"] == "turn_started"]
    finished = [event for event in events if event["event"] == "turn_finished"]
    yield from differences(turns, [event["turn"] for event in finished], f"{where} turns finished")
    yield from differences(list(range(1, len(turns) + 1)), turns, f"{where} turns started")
    for turn in finished:
        of_turn = [event for event in events if event["turn"] == turn["turn"]]
        text = "".join(event["text"] for event in of_turn if event["event"] == "text_delta")
        yield from differences(turn["text"], text, f"{where} text of turn {turn['turn']}")
    yield from differences(run["text"], finished[-1]["text"], f"{where} text of the last turn")
