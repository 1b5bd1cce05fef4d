"""Runs the conformance suite: `python -m tests.conformance`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conformance.harness.bench import Bench
from tests.conformance.harness.cases import Case, CaseError, find_cases
from tests.conformance.harness.languages import Language, find_languages
from tests.conformance.harness.outcomes import Report
from tests.conformance.harness.recordings import write_recording, write_tools
from tests.conformance.harness.suite import ModelServer, run_language
from tests.conformance.harness.table import failures, table

_SERVERS: tuple[ModelServer, ...] = ("scripted", "aimock")
_REFERENCE = "python"


async def _run(languages: Sequence[Language], cases: Sequence[Case]) -> list[Report]:
    required = os.environ.get("SIDECALL_REQUIRE_TOOLCHAINS") == "1"
    reports = []
    for language in languages:
        for server in _SERVERS:
            print(f"{language.name}, {server} model ...", file=sys.stderr, flush=True)
            reports.append(
                await run_language(
                    language, cases, model_server=server, toolchains_required=required
                )
            )
    return reports


async def _record(languages: Sequence[Language], cases: Sequence[Case]) -> None:
    """Takes what the reference does for what is expected, to be read before it is kept."""
    (reference,) = (language for language in languages if language.name == _REFERENCE)
    with TemporaryDirectory(prefix="conf-") as folder:
        async with Bench(Path(folder)) as bench:
            await write_tools(bench.proxy.address)
    report = await run_language(reference, cases)
    for case in cases:
        outcomes = [outcome for outcome in report.outcomes if outcome.case == case.name]
        if outcomes and all(outcome.recorded for outcome in outcomes):
            write_recording(case, outcomes)
    # What is missing in the recordings is written now; what the cases themselves say stays.
    again = await run_language(reference, [Case.read(case.path) for case in cases])
    print("\n\n".join(failures([again])))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the suite and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--language", action="append", help="only this one; may be repeated")
    parser.add_argument("--case", action="append", help="only cases with such names (* and ?)")
    parser.add_argument(
        "--record", action="store_true", help=f"expect what the {_REFERENCE} client does now"
    )
    given = parser.parse_args(arguments)
    patterns = given.case or ["*"]
    try:
        cases = find_cases(patterns)
    except CaseError as error:
        print(error, file=sys.stderr)
        return 2
    languages = find_languages()
    if given.record:
        asyncio.run(_record(languages, cases))
        return 0
    if given.language:
        languages = [language for language in languages if language.name in given.language]
    if not languages or not cases:
        print("there is no such language or case", file=sys.stderr)
        return 2
    reports = asyncio.run(_run(languages, cases))
    for failure in failures(reports):
        print(failure, end="\n\n")
    print(table(reports))
    return 0 if all(report.is_good for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
