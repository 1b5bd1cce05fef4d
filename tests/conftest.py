"""Settings for all tests."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support.promises")

# A slow machine fails no test; a run on a server that others wait for is repeatable.
settings.register_profile(
    "sidecall", deadline=None, derandomize="CI" in os.environ, print_blob=True
)
settings.load_profile("sidecall")
