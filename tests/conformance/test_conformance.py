"""Every language's client does what the cases expect, against a real sidecar."""

import asyncio
import os

import pytest
from tests.conformance.harness.cases import find_cases
from tests.conformance.harness.languages import Language, find_languages
from tests.conformance.harness.suite import ModelServer, run_language
from tests.conformance.harness.table import failures

# Building a client for the first time may take long on a small machine.
pytestmark = pytest.mark.timeout(3000)


@pytest.mark.parametrize("model_server", ["scripted", "aimock"])
@pytest.mark.parametrize("language", find_languages(), ids=lambda language: language.name)
def test_a_client_conforms(language: Language, model_server: ModelServer) -> None:
    required = os.environ.get("SIDECALL_REQUIRE_TOOLCHAINS") == "1"
    report = asyncio.run(
        run_language(
            language, find_cases(), model_server=model_server, toolchains_required=required
        )
    )
    if report.skipped:
        pytest.skip(report.skipped)
    assert report.is_good, "\n\n".join(failures([report]))
    assert report.outcomes
