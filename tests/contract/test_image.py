"""The image: what its process 1 is."""

import json
import re
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


def test_process_1_reaps_orphans_and_passes_signals_on() -> None:
    final_stage = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)[-1]
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", final_stage, re.MULTILINE)
    # A list, so that no shell stands between: it would keep SIGTERM to itself.
    assert json.loads(entrypoint) == ["tini", "--", "sidecall"]
    assert re.search(r"apt-get install .*\btini\b", final_stage)
