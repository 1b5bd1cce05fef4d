"""Shows what came of the suite."""

from collections.abc import Iterable, Iterator, Sequence

from tests.conformance.harness.outcomes import Report

_HEADS = ("language", "cases", "passed", "failed", "")


def table(reports: Iterable[Report]) -> str:
    """One line for each language."""
    rows = [_HEADS, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    return "\n".join(_line(row, widths) for row in rows)


def failures(reports: Iterable[Report]) -> Iterator[str]:
    """What went wrong, case by case."""
    for report in reports:
        if report.failed:
            yield f"{report.language}: {report.failed}"
        for outcome in report.failures:
            problems = "\n  ".join("\n".join(outcome.problems).splitlines())
            yield f"{report.language}: {outcome.name}\n  {problems}"


def _row(report: Report) -> tuple[str, ...]:
    total, failed = len(report.outcomes), len(report.failures)
    if report.skipped:
        return (report.language, "", "", "", f"skipped: {report.skipped}")
    if report.failed:
        return (report.language, str(total), "", "", report.failed.partition("\n")[0])
    passed = total - failed
    return (report.language, str(total), str(passed), str(failed), f"{report.took_s:.1f} s")


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    language, *numbers, note = row
    cells = [language.ljust(widths[0])]
    cells += [number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True)]
    return "  ".join([*cells, note]).rstrip()
