import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.handler_calls import failure, find, give_up, make_call, run, start, text
from tests.unit.backends import isolated_tools

from sidecall import tool
from sidecall._loader import ToolLoadError
from sidecall_server.backends.process import GROUP
from sidecall_server.backends.python import PythonBackend
from sidecall_server.core.defaults import Limits
from sidecall_server.core.events import CallEvent, PartialOutput, Progress
from sidecall_server.core.outcome import Code, ExecutionState, Reason, Success
from sidecall_server.core.ports import BoundTool
from sidecall_server.observability.clock import SystemClock

TOOLS = str(Path(isolated_tools.__file__))
# A bound for what happens at once; a slow machine may take long for it.
PATIENCE_S = 60


@asynccontextmanager
async def serving(
    *sources: str, max_processes: int = 1, tools: Sequence[Any] = ()
) -> AsyncIterator[tuple[PythonBackend, Sequence[BoundTool]]]:
    limits = dataclasses.replace(Limits(), max_processes=max_processes)
    clock = SystemClock(asyncio.get_running_loop())
    backend = PythonBackend(sources or (() if tools else (TOOLS,)), limits, clock, tools)
    try:
        yield backend, await backend.start()
    finally:
        await backend.stop(PATIENCE_S)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  another process changes it
            await asyncio.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_calls_run_in_one_other_process_and_the_rest_here() -> None:
    async with serving() as (_, tools):
        pids = {text(await run(tools, "pid")) for _ in range(3)}
        assert len(pids) == 1
        assert pids != {str(os.getpid())}
        assert text(await run(tools, "beside")) == str(os.getpid())
        assert find(tools, "pid").spec.groups == (GROUP,)


async def test_tool_gets_its_types_and_its_context(caplog: pytest.LogCaptureFixture) -> None:
    events: list[CallEvent] = []
    async with serving() as (_, tools):
        call = make_call("describe", {"item": {"count": 2.0}}, events.append, {"user": "ada"})
        call.deadline_ns = time.monotonic_ns() + PATIENCE_S * 10**9
        assert text(await find(tools, "describe").handler(call)) == (
            '{"count":2,"own_state":true,"user":"ada","caller":"tests","id":"id-1",'
            '"attempt":1,"timed":true}'
        )
        assert events == [Progress(7, 1.0, 2.0, "half \\ud800"), PartialOutput(7, "part")]
        assert ("sidecall.tools.describe", logging.WARNING, "a word for the log") in (
            caplog.record_tuples
        )
        refused = failure(await run(tools, "describe", item={"count": "2"}))
        assert (refused.reason, refused.state) == (
            Reason.ARGUMENTS_INVALID,
            ExecutionState.NOT_STARTED,
        )
        assert refused.violations[0].field == "/item/count"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (10**40, str(10**40)),
        ("é\ud800", "é\\ud800"),
        (None, "null"),
        ([1.5, {"a": True}], '[1.5,{"a":true}]'),
    ],
)
async def test_values_cross_unchanged(value: object, expected: str) -> None:
    async with serving() as (_, tools):
        assert text(await run(tools, "echo", value=value)) == expected


async def test_generators_show_their_parts() -> None:
    async with serving() as (_, tools):
        for name in ("pieces", "lines"):
            events: list[CallEvent] = []
            assert text(await run(tools, name, events.append, n=3)) == "012"
            assert events == [PartialOutput(7, "0"), PartialOutput(7, "1"), PartialOutput(7, "2")]


async def test_failures_are_translated_and_cost_no_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as (backend, tools):
        expected = failure(await run(tools, "fail", how="tool_error"))
        assert (expected.message, expected.status_code) == ("no such thing", Code.NOT_FOUND)
        assert (expected.retry_after_s, expected.state) == (3, ExecutionState.COMPLETED)
        for how in ("value_error", "system_exit", "keyboard_interrupt"):
            outcome = failure(await run(tools, "fail", how=how))
            assert outcome.reason is Reason.TOOL_FAILED
            assert "secret" not in outcome.message
            assert outcome.metadata["error_id"] in caplog.text
        assert "ValueError: secret" in caplog.text
        assert "cannot be passed on" in failure(await run(tools, "fail", how="object")).message
        assert failure(await run(tools, "deep")).reason is Reason.TOOL_FAILED
        assert backend.statistics()["restarts"] == 0


@pytest.mark.parametrize(
    ("how", "metadata"),
    [
        ("exit", {"exit_code": "3"}),
        ("segmentation_fault", {"signal": "SIGSEGV"}),
        ("kill", {"signal": "SIGKILL"}),
        ("garbage", {"signal": "SIGKILL"}),
    ],
)
async def test_process_that_dies_costs_only_its_call(how: str, metadata: dict[str, str]) -> None:
    async with serving() as (backend, tools):
        before = text(await run(tools, "pid"))
        outcome = failure(await run(tools, "die", how=how))
        assert (outcome.reason, outcome.state) == (Reason.TOOL_CRASHED, ExecutionState.UNKNOWN)
        assert outcome.metadata == metadata
        assert text(await run(tools, "pid")) != before
        assert backend.statistics()["restarts"] == 1


async def test_other_calls_go_on_while_processes_die() -> None:
    async with serving(max_processes=2) as (_, tools):

        async def one(n: int) -> object:
            if n % 4 == 0:
                return failure(await run(tools, "die_async")).reason
            return text(await run(tools, "echo", value=n))

        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*(one(n) for n in range(16)))
    assert results == [Reason.TOOL_CRASHED if n % 4 == 0 else str(n) for n in range(16)]


async def test_cancelled_call_ends_its_whole_process_group_at_once() -> None:
    told: asyncio.Queue[CallEvent] = asyncio.Queue()
    async with serving() as (_, tools):
        call = make_call("hang", observer=told.put_nowait)
        task = start(find(tools, "hang"), call)
        async with asyncio.timeout(PATIENCE_S):
            event = await told.get()
        assert isinstance(event, PartialOutput)
        worker, grandchild = map(int, event.text.split())
        give_up(call, task)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert failure(await task).reason is Reason.CANCELLED
        assert is_gone(worker)
        await eventually(lambda: is_gone(grandchild))
        assert text(await run(tools, "pid")) != str(worker)


async def test_idle_process_that_is_killed_is_replaced_before_the_next_call() -> None:
    async with serving() as (backend, tools):
        for _ in range(3):
            before = int(text(await run(tools, "pid")))
            os.kill(before, signal.SIGKILL)
            assert text(await run(tools, "pid")) != str(before)
        assert backend.statistics()["restarts"] == 3


async def test_floods_and_large_values_break_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    async with serving() as (_, tools):
        assert text(await run(tools, "flood", lines=5_000)) == "read 0"
        size = 50_000_000
        outcome = await run(tools, "large", size=size)
        assert isinstance(outcome, Success)
        assert len(outcome.text) == size
        assert text(await run(tools, "echo", value="y" * 10_000_000)) == "y" * 10_000_000
        events: list[CallEvent] = []
        assert text(await run(tools, "chatty", events.append, n=5_000)) == "done"
        assert events == [Progress(7, float(number)) for number in range(5_000)]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("x" * 1000) == 5_000


async def test_start_that_fails_later_is_reported_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "broken"
    monkeypatch.setenv("SIDECALL_TEST_BROKEN", str(flag))
    async with serving() as (_, tools):
        flag.touch()
        failure(await run(tools, "die", how="exit"))
        async with asyncio.timeout(PATIENCE_S):
            outcome = failure(await run(tools, "pid"))
        assert (outcome.reason, outcome.state) == (
            Reason.TOOL_UNAVAILABLE,
            ExecutionState.NOT_STARTED,
        )
        assert outcome.retry_after_s is not None
        assert "cannot be loaded" not in outcome.message
        flag.unlink()
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance(await run(tools, "pid"), Success):  # noqa: ASYNC110  as above
                await asyncio.sleep(0.01)


async def test_start_reports_what_only_a_worker_process_finds(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text(
        "import sys\n"
        "from sidecall import tool\n"
        "if 'sidecall_server.backends.process_worker' in str(sys.orig_argv):\n"
        "    raise RuntimeError('not in a worker')\n"
        "@tool(isolation='process')\n"
        "def f() -> None: ...\n"
    )
    with pytest.raises(ToolLoadError, match=r"in a worker process: .*not in a worker"):
        async with serving(str(path)):
            pytest.fail("it started")


async def test_process_that_exits_at_its_start_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text(
        "import os, sys\n"
        "from sidecall import tool\n"
        "if 'sidecall_server.backends.process_worker' in str(sys.orig_argv):\n"
        "    os._exit(9)\n"
        "@tool(isolation='process')\n"
        "def f() -> None: ...\n"
    )
    with pytest.raises(ToolLoadError, match=r"ended at its start \(exit code 9\)"):
        async with serving(str(path)):
            pytest.fail("it started")


async def test_given_tools_are_found_by_their_module_if_they_stand_at_its_top() -> None:
    async with serving(tools=[isolated_tools.pid]) as (_, tools):
        assert text(await run(tools, "pid")) != str(os.getpid())

    @tool(isolation="process", name="inner")
    def inner() -> None:
        """Is found by nobody."""

    with pytest.raises(ToolLoadError, match="must stand at the top level of its file"):
        async with serving(tools=[isolated_tools.pid, inner]):
            pytest.fail("it started")


async def test_stop_lets_lifespans_end_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = tmp_path / "ended"
    monkeypatch.setenv("SIDECALL_TEST_ENDED", str(ended))
    before = set(psutil.Process().children())
    descriptors = psutil.Process().num_fds()
    async with serving() as (backend, tools):
        for _ in range(3):
            failure(await run(tools, "die", how="exit"))
        text(await run(tools, "pid"))
        ended.unlink(missing_ok=True)
        await backend.stop(PATIENCE_S)
    assert ended.read_text() == "ended"
    assert set(psutil.Process().children()) <= before
    assert psutil.Process().num_fds() <= descriptors


async def test_workers_die_with_the_sidecar() -> None:
    script = (
        "import asyncio, sys\n"
        "from sidecall_server.backends.python import PythonBackend\n"
        "from sidecall_server.core.defaults import Limits\n"
        "from sidecall_server.observability.clock import SystemClock\n"
        "from tests.support.handler_calls import find, make_call, start\n"
        "async def main():\n"
        "    clock = SystemClock(asyncio.get_running_loop())\n"
        f"    tools = await PythonBackend([{TOOLS!r}], Limits(), clock).start()\n"
        "    tell = lambda event: print(event.text, flush=True)\n"
        "    await find(tools, 'hang').handler(make_call('hang', observer=tell))\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[3]
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, cwd=root
    )
    assert parent.stdout is not None
    worker, grandchild = map(int, (await parent.stdout.readline()).split())
    parent.kill()
    await parent.wait()
    try:
        await eventually(lambda: is_gone(worker))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(grandchild, signal.SIGKILL)


async def test_a_process_that_starts_later_has_the_tools_that_are_served(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text(
        "import os\nfrom sidecall import tool\n"
        "@tool(isolation='process')\ndef pid() -> int:\n    return os.getpid()\n"
        "@tool(isolation='process')\ndef die() -> None:\n    os._exit(3)\n"
    )
    async with serving(str(path)) as (_, tools):
        first = text(await run(tools, "pid"))
        path.write_text("def broken(:\n")
        failure(await run(tools, "die"))
        assert text(await run(tools, "pid")) != first
