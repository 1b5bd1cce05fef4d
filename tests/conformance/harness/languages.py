"""Finds runners, builds them, and says what they lack."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
_CLIENTS = ROOT / "client"
_BUILD_TIMEOUT_S = 1800
_LOG_LINES = 60


class BuildError(Exception):
    """A runner cannot be built; the text holds the end of the log."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language with a runner.

    Attributes:
        name: Name of the language.
        folder: Where its commands run.
        needs: Programs without which nothing works.
        build: Commands that build the runner.
        run: The command that starts it.
        environ: Further environment variables.
    """

    name: str
    folder: Path
    needs: tuple[str, ...] = ()
    build: tuple[tuple[str, ...], ...] = ()
    run: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Language":
        """Reads a `conformance.json`."""
        given: dict[str, Any] = json.loads(path.read_text())
        return cls(
            name=given["language"],
            folder=path.parent,
            needs=tuple(given.get("needs", ())),
            build=tuple(_filled(command) for command in given.get("build", ())),
            run=_filled(given["run"]),
            environ=dict(
                zip(given.get("env", {}), _filled(given.get("env", {}).values()), strict=True)
            ),
        )

    def lacks(self) -> str:
        """Why it cannot run here; empty where it can."""
        missing = [program for program in self.needs if shutil.which(program) is None]
        return f"{', '.join(missing)} not found" if missing else ""

    def environment(self, **further: str) -> dict[str, str]:
        """The environment of its commands."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SIDECALL_", "OPENAI_"))
        }
        return {**kept, **self.environ, **further}

    def make(self) -> None:
        """Builds the runner.

        Raises:
            BuildError: A command failed.
        """
        for command in self.build:
            try:
                done = subprocess.run(  # noqa: S603  the commands are the repository's
                    command,
                    cwd=self.folder,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=_BUILD_TIMEOUT_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise BuildError(f"{' '.join(command)}: {error}") from error
            if done.returncode:
                log = done.stdout.decode(errors="replace").splitlines()[-_LOG_LINES:]
                text = "\n".join(log)
                raise BuildError(f"{' '.join(command)} ended with {done.returncode}:\n{text}")


def find_languages() -> list[Language]:
    """All languages with a runner; Python, the reference, first."""
    found = [Language.read(path) for path in sorted(_CLIENTS.glob("*/conformance.json"))]
    return sorted(found, key=lambda language: (language.name != "python", language.name))


def _filled(command: Any) -> tuple[str, ...]:
    values = {"{python}": sys.executable, "{root}": str(ROOT)}
    filled = []
    for word in command:
        for name, value in values.items():
            word = word.replace(name, value)  # noqa: PLW2901  filled step by step
        filled.append(word)
    return tuple(filled)
