import io

import pytest
from rich.console import Console
from tests.unit.cli.test_waterfall import MS, made

from sidecall import BatchResults
from sidecall.v1.execution_pb2 import BlockCause, CallTiming, CriticalStep, Schedule
from sidecall_server.cli.causes import CAUSES
from sidecall_server.cli.explanation import as_json, draw, explain


def step(index: int, waiting_ms: int, running_ms: int, cause: str = "UNSPECIFIED") -> CriticalStep:
    return CriticalStep(
        index=index,
        cause=BlockCause.Value(f"BLOCK_CAUSE_{cause}"),
        waiting_ns=waiting_ms * MS,
        running_ns=running_ms * MS,
    )


def done() -> BatchResults:
    results = [
        made("find", 0, 400),
        made("weather", 405, 800, reference=400),
        made("find", 400, 1000, tool_limit=350, rate=50),
        made("find", 600, 650, tool_limit=600),
    ]
    schedule = Schedule(
        duration_ns=1000 * MS,
        sequential_ns=1445 * MS,
        speed_up=1.445,
        critical_path=[step(0, 0, 400), step(2, 0, 600, "TOOL_LIMIT")],
    )
    return BatchResults(results, schedule=schedule)


WORDS = """\
blocked on (* decided when the batch ended)
* @1 find     nothing
  @2 weather  another call's result 400 ms
* @3 find     its tool's limit 350 ms, a rate 50 ms
  @4 find     its tool's limit 600 ms

critical path
  @1 find     ran 400 ms, 0 us after the receipt
  @3 find     ran 600 ms, 0 us after @1 ended (its tool's limit)

longest waits
   600 ms  its tool's limit (@4): raise max_concurrency of find
   400 ms  another call's result (@2): only that call could be faster
    50 ms  a rate (@3): raise rate of find or of its limits, or the burst

4 calls took 1.00 s; one after the other they would have taken 1.45 s: 1.4 times faster
"""


def printed(batch: BatchResults, *, terminal: bool = False) -> str:
    out = io.StringIO()
    draw(Console(file=out, width=60, force_terminal=terminal, color_system=None), batch)
    return out.getvalue()


def test_words() -> None:
    assert printed(done()) == WORDS


def test_a_terminal_gets_the_same_words() -> None:
    assert printed(done(), terminal=True) == WORDS


def test_nothing_to_explain() -> None:
    assert printed(BatchResults()) == ""


def test_a_sidecar_that_tells_no_schedule() -> None:
    lines = printed(BatchResults([made("find", 0, 5)])).splitlines()
    assert lines[-1] == "1 call: the sidecar gave no schedule"
    assert "critical path" not in lines


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (Schedule(duration_ns=5 * MS), "1 call took 5 ms; nothing ran"),
        (
            Schedule(duration_ns=10 * MS, sequential_ns=9 * MS, speed_up=0.9),
            "1 call took 10 ms; one after the other they would have taken 9 ms",
        ),
    ],
)
def test_batches_that_gained_nothing(schedule: Schedule, said: str) -> None:
    assert printed(BatchResults([made("a", 0, 5)], schedule=schedule)).splitlines()[-1] == said


def test_causes_cover_the_contract() -> None:
    fields = {f.name for f in CallTiming.DESCRIPTOR.fields if f.name.startswith("blocked_on_")}
    assert {f"blocked_on_{name}_ns" for name in CAUSES} == fields
    names = {name.removeprefix("BLOCK_CAUSE_").lower() for name in BlockCause.keys()}  # noqa: SIM118  no dict
    assert names - set(CAUSES) == {"unspecified"}


@pytest.mark.parametrize("name", list(CAUSES))
def test_each_cause_has_its_words(name: str) -> None:
    result = made("find", 5, 6, **{name: 5})
    schedule = Schedule(
        duration_ns=6 * MS,
        critical_path=[step(0, 5, 1), step(0, 0, 1, name.upper())],
    )
    text = printed(BatchResults([result], schedule=schedule))
    assert text.count(CAUSES[name].meaning) == 3
    assert CAUSES[name].remedy.format(tool="find") in text


def test_a_cause_of_a_newer_sidecar() -> None:
    strange = step(0, 0, 5)
    strange.cause = BlockCause.ValueType(99)
    schedule = Schedule(duration_ns=9, critical_path=[step(0, 0, 5), strange])
    assert "ended (99)" in printed(BatchResults([made("a", 0, 5)], schedule=schedule))


def test_of_many_calls_the_critical_and_the_longest_waits_are_shown() -> None:
    results = [made(f"t{n}", n, 1000, tool_limit=n) for n in range(1000)]
    schedule = Schedule(duration_ns=1000 * MS, critical_path=[step(n, 0, 1) for n in range(100)])
    lines = [line.plain for line in explain(BatchResults(results, schedule=schedule))]
    calls = lines[1 : lines.index("  ... 940 more calls ...")]
    assert [line.split()[1] for line in calls] == [f"@{n + 1}" for n in range(40, 100)]
    path = lines[lines.index("critical path") + 1 :]
    assert path[0] == "  ... 40 earlier steps ..."
    assert "after @40 ended" in path[1]


def test_json() -> None:
    value = as_json(done(), "i-1")
    assert value["sent_to_instance"] == "i-1"
    assert [item["blocked_s"] for item in value["results"]] == [
        {},
        {"reference": 0.4},
        {"tool_limit": 0.35, "rate": 0.05},
        {"tool_limit": 0.6},
    ]
    assert value["results"][0]["name"] == "find"
    assert value["schedule"] == {
        "duration_s": 1.0,
        "sequential_s": 1.445,
        "speed_up": 1.445,
        "critical_path": [
            {"index": 0, "cause": None, "waiting_s": 0.0, "running_s": 0.4},
            {"index": 2, "cause": "tool_limit", "waiting_s": 0.0, "running_s": 0.6},
        ],
    }


def test_keys_that_wait_for_references_are_not_too_few() -> None:
    plain = [made("pay", 0, 400), made("pay", 400, 800, lane=400)]
    assert "a lane of pay with more keys" in printed(BatchResults(plain))
    referring = [made("pay", 300, 400, reference=300), made("pay", 400, 800, lane=400)]
    words = printed(BatchResults(referring))
    assert "a lane of pay with more keys" not in words
    assert "a key of pay that comes from a reference may be any key" in words
    assert "a lane of pay with more keys" in printed(
        BatchResults([made("get", 300, 400, reference=300), *plain])
    )
