"""Plays batches without a chat."""

from collections.abc import Sequence
from typing import Any

from tests.conformance.harness.bench import Bench
from tests.conformance.harness.cases import Case, Way
from tests.conformance.harness.chat_play import sidecar_of
from tests.conformance.harness.faults import Fault
from tests.conformance.harness.matching import differences, without_nulls
from tests.conformance.harness.outcomes import Outcome
from tests.conformance.harness.recordings import compare_recorded
from tests.conformance.harness.records import comparable, sidecar_requests
from tests.conformance.harness.runner import Runner

Json = dict[str, Any]


async def play_batches(case: Case, way: Way, bench: Bench, runner: Runner) -> Outcome:
    """Executes the batches of a case, one after the other."""
    bench.log.begin()
    bench.proxy.begin(Fault(**fault) for fault in case.data.get("faults", ()))
    answers: list[Json] = []
    for step in case.data["steps"]:
        request = {
            "kind": "batch",
            "stream": way.stream,
            "sidecar": sidecar_of(case, bench),
            **_filled(step, answers),
        }
        answer = await runner.ask(request)
        if "unsupported" in answer:
            return Outcome(case.name, way.name, (f"not supported: {answer['unsupported']}",))
        answers.append(without_nulls(answer))
    await bench.proxy.until_idle()
    expected = case.data["expect"]
    problems: list[str] = []
    for number, (wanted, answer) in enumerate(zip(expected["steps"], answers, strict=True)):
        problems += differences(wanted, answer, f"steps[{number}]", partly=True)
    problems += differences(expected.get("executed", {}), bench.log.counts("started"), "executed")
    sent = sidecar_requests(bench.proxy.rpcs, case.path.read_text())
    recorded = {"sidecar": comparable(sent)}
    problems += compare_recorded(case, way, recorded)
    return Outcome(case.name, way.name, tuple(problems), recorded)


def _filled(value: Any, answers: Sequence[Json]) -> Any:
    """A copy with what earlier answers held in place of `$from`."""
    if isinstance(value, list):
        return [_filled(item, answers) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$from"}:
        found: Any = answers
        for word in value["$from"].split("."):
            found = found[int(word)] if isinstance(found, list | tuple) else found[word]
        return found
    return {key: _filled(item, answers) for key, item in value.items()}
