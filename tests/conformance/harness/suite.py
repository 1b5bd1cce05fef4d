"""Runs all cases in one language."""

import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Literal

from tests.conformance.harness import aimock
from tests.conformance.harness.batch_play import play_batches
from tests.conformance.harness.bench import Bench
from tests.conformance.harness.cases import Case, Way
from tests.conformance.harness.chat_play import play_chat
from tests.conformance.harness.host_play import play_host
from tests.conformance.harness.languages import BuildError, Language
from tests.conformance.harness.models import on_aimock
from tests.conformance.harness.outcomes import Outcome, Report
from tests.conformance.harness.runner import Runner, RunnerError

from sidecall import __version__

ModelServer = Literal["scripted", "aimock"]
PlayCase = Callable[[Case, Way, Bench, Runner], Awaitable[Outcome]]

_MOST_BROKEN = 3
_PLAYS: dict[str, PlayCase] = {"chat": play_chat, "batch": play_batches, "host": play_host}


async def run_language(
    language: Language,
    cases: Sequence[Case],
    *,
    model_server: ModelServer = "scripted",
    toolchains_required: bool = False,
) -> Report:
    """Builds the runner of a language and gives it all cases.

    Args:
        language: The language.
        cases: The cases.
        model_server: Who plays the model. "aimock" plays only cases that any server can play.
        toolchains_required: Whether a missing toolchain is a failure.
    """
    others = model_server == "aimock"
    report = Report(f"{language.name} with aimock" if others else language.name)
    if lacks := language.lacks() or (aimock.lacks() if others else ""):
        if toolchains_required:
            report.failed = lacks
        else:
            report.skipped = lacks
        return report
    try:
        language.make()
        if others:
            aimock.install()
    except BuildError as error:
        report.failed = str(error)
        return report
    start_s = time.monotonic()
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="conf-")))
        plays = _PLAYS
        if others:
            server = await resources.enter_async_context(aimock.Aimock())
            plays = {"chat": partial(play_chat, play=on_aimock(server))}
            cases = [case for case in cases if case.is_plain]
        bench = await resources.enter_async_context(Bench(folder))
        await _Run(language, bench, folder / "runner.log", report, plays).play_all(cases)
    report.took_s = time.monotonic() - start_s
    return report


class _Run:
    """Gives cases to a runner, which is started again where one has broken it."""

    def __init__(
        self,
        language: Language,
        bench: Bench,
        log: Path,
        report: Report,
        plays: Mapping[str, PlayCase],
    ) -> None:
        self._plays = plays
        self._language = language
        self._bench = bench
        self._log = log
        self._report = report
        self._resources = AsyncExitStack()
        self._runner: Runner | None = None
        self._broken_in_a_row = 0

    async def play_all(self, cases: Sequence[Case]) -> None:
        try:
            version = (await self._started()).hello.get("version")
            if version != __version__:
                self._report.failed = f"the client's version is {version}, not {__version__}"
                return
            for case, way in ((each, way) for each in cases for way in each.ways):
                self._report.outcomes.append(await self._play(case, way))
                if self._broken_in_a_row >= _MOST_BROKEN:
                    self._report.failed = f"{_MOST_BROKEN} cases in a row have broken the runner"
                    return
        except (RunnerError, OSError) as error:
            self._report.failed = f"the runner cannot be started: {error}"
        finally:
            await self._resources.aclose()

    async def _play(self, case: Case, way: Way) -> Outcome:
        runner = await self._started()
        try:
            outcome = await self._plays[case.kind](case, way, self._bench, runner)
        except (RunnerError, TimeoutError) as error:
            # What it did until then must not be taken for the next case's.
            await self._resources.aclose()
            self._runner = None
            self._broken_in_a_row += 1
            return Outcome(case.name, way.name, (f"{type(error).__name__}: {error}",))
        self._broken_in_a_row = 0
        return outcome

    async def _started(self) -> Runner:
        if self._runner is None or not self._runner.is_alive:
            await self._resources.aclose()
            self._runner = await self._resources.enter_async_context(
                Runner(self._language, self._bench.proxy.address, self._log)
            )
        return self._runner
