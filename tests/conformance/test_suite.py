"""The suite goes red where a client does not conform, and says why."""

import sys

import pytest
from tests.conformance import __main__ as command
from tests.conformance.harness.cases import Case, find_cases
from tests.conformance.harness.languages import ROOT, Language, find_languages
from tests.conformance.harness.outcomes import Report
from tests.conformance.harness.recordings import compare_recorded
from tests.conformance.harness.suite import run_language
from tests.conformance.harness.table import failures, table


def broken(how: str) -> Language:
    run = (sys.executable, "-m", "tests.conformance.broken_runner", how)
    return Language("broken", ROOT, run=run)


async def run(how: str) -> Report:
    return await run_language(broken(how), find_cases(["cut_off_at_the_output_limit"]))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("other_text", 'expected "NOT RUN: the answer that made this call was cut off'),
        ("runs_twice", "executed.note: expected nothing, got 1"),
        ("lacks_it", "not supported: no chat here"),
        ("babbles", "not an answer: b'Hello!"),
        ("dies", "not an answer: b''"),
        ("other_version", "the client's version is 0.0.1, not"),
    ],
)
async def test_a_client_that_does_not_conform(how: str, said: str) -> None:
    report = await run(how)
    assert not report.is_good
    assert said in "\n".join(failures([report]))
    assert "0.0.1" in table([report]) or report.failures


async def test_a_client_that_conforms() -> None:
    report = await run("not at all")
    assert report.is_good, "\n".join(failures([report]))
    assert len(report.outcomes) == 6
    assert table([report]).splitlines()[1].split()[:4] == ["broken", "6", "6", "0"]


@pytest.mark.parametrize("required", [False, True])
async def test_a_missing_toolchain(required: bool) -> None:
    language = Language("abap", ROOT, needs=("no-such-program",))
    report = await run_language(language, find_cases(), toolchains_required=required)
    assert report.is_good is not required
    assert "no-such-program not found" in table([report])


async def test_a_build_that_fails() -> None:
    language = Language("abap", ROOT, build=((sys.executable, "-c", "exit('no compiler')"),))
    report = await run_language(language, find_cases())
    assert "no compiler" in "\n".join(failures([report]))


@pytest.mark.parametrize(("how", "code"), [("not at all", 0), ("other_text", 1)])
def test_the_command_says_it_with_its_exit_code(
    how: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_languages", lambda: [broken(how)])
    monkeypatch.setattr(command, "_SERVERS", ("scripted",))
    assert command.main(["--case", "cut_off_at_the_output_limit"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split()[:3] == ["broken", "6", "6" if code == 0 else "0"]


def test_every_client_has_a_runner() -> None:
    clients = {path.name for path in (ROOT / "client").iterdir() if path.is_dir()}
    assert {language.folder.name for language in find_languages()} == clients


@pytest.mark.parametrize("case", find_cases(), ids=lambda case: case.name)
def test_every_case_has_a_recording(case: Case) -> None:
    assert case.data["proves"].endswith(".")
    if case.kind == "host":
        return
    parts = {"chat": ("history", "requests", "sidecar"), "batch": ("sidecar",)}[case.kind]
    for way in case.ways:
        nothing = dict.fromkeys(parts, "no such thing")
        problems = list(compare_recorded(case, way, nothing))
        assert not any("nothing is recorded" in problem for problem in problems)
