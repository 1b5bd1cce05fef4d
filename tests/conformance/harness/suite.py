"""Runs all cases in one language."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tests.conformance.harness.batch_play import play_batches
from tests.conformance.harness.bench import Bench
from tests.conformance.harness.cases import Case, Way
from tests.conformance.harness.chat_play import play_chat
from tests.conformance.harness.host_play import play_host
from tests.conformance.harness.languages import BuildError, Language
from tests.conformance.harness.outcomes import Outcome, Report
from tests.conformance.harness.runner import Runner, RunnerError

from sidecall import __version__

_PLAYS = {"chat": play_chat, "batch": play_batches, "host": play_host}


async def run_language(
    language: Language, cases: Sequence[Case], *, toolchains_required: bool = False
) -> Report:
    """Builds the runner of a language and gives it all cases.

    Args:
        language: The language.
        cases: The cases.
        toolchains_required: Whether a missing toolchain is a failure.
    """
    report = Report(language.name)
    if lacks := language.lacks():
        if toolchains_required:
            report.failed = lacks
        else:
            report.skipped = lacks
        return report
    try:
        language.make()
    except BuildError as error:
        report.failed = str(error)
        return report
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="conf-") as folder:
        async with Bench(Path(folder)) as bench:
            await _Run(language, bench, Path(folder) / "runner.log", report).play_all(cases)
    report.took_s = time.monotonic() - start_s
    return report


class _Run:
    """Gives cases to a runner, which is started again where one has broken it."""

    def __init__(self, language: Language, bench: Bench, log: Path, report: Report) -> None:
        self._language = language
        self._bench = bench
        self._log = log
        self._report = report
        self._resources = AsyncExitStack()
        self._runner: Runner | None = None

    async def play_all(self, cases: Sequence[Case]) -> None:
        try:
            version = (await self._started()).hello.get("version")
            if version != __version__:
                self._report.failed = f"the client's version is {version}, not {__version__}"
                return
            for case in cases:
                for way in case.ways:
                    self._report.outcomes.append(await self._play(case, way))
        except (RunnerError, OSError) as error:
            self._report.failed = f"the runner cannot be started: {error}"
        finally:
            await self._resources.aclose()

    async def _play(self, case: Case, way: Way) -> Outcome:
        runner = await self._started()
        try:
            return await _PLAYS[case.kind](case, way, self._bench, runner)
        except (RunnerError, TimeoutError) as error:
            # What it did until then must not be taken for the next case's.
            await self._resources.aclose()
            self._runner = None
            return Outcome(case.name, way.name, (f"{type(error).__name__}: {error}",))

    async def _started(self) -> Runner:
        if self._runner is None or not self._runner.is_alive:
            await self._resources.aclose()
            self._runner = await self._resources.enter_async_context(
                Runner(self._language, self._bench.proxy.address, self._log)
            )
        return self._runner
