"""The committed stubs are those that the protos give, and the protos are in order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "client" / "python" / "sidecall" / "v1"
GO_STUBS = ROOT / "client" / "go" / "sidecallv1"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generator() -> Path:
    """Python of the environment of requirements/gen.txt, which `make test` makes."""
    named = os.environ.get("SIDECALL_GEN_PYTHON")
    python = Path(named) if named else ROOT / ".venv-gen" / "bin" / "python"
    if not python.exists():
        pytest.fail(f"{python} does not exist; run `make test`, or set SIDECALL_GEN_PYTHON")
    return python


def generated(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for glob in GENERATED for path in folder.glob(glob)}


def buf(*arguments: str) -> None:
    """Runs buf from the environment that runs this test."""
    command = [str(Path(sys.executable).parent / "buf"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603  fixed command
    assert done.returncode == 0, done.stdout + done.stderr


def generate(*arguments: str) -> None:
    """Runs the generator."""
    python = generator()
    environ = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [str(python), str(ROOT / "scripts" / "gen.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)  # noqa: S603  fixed command
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with new stubs; places the protos that buf needs as well."""
    out = tmp_path_factory.mktemp("stubs")
    generate("--only", "python", "--out", str(out))
    return out / "sidecall" / "v1"


def test_the_committed_stubs_are_up_to_date(fresh: Path) -> None:
    made, committed = generated(fresh), generated(STUBS)

    assert len(made) == 4 * len(list((ROOT / "protos").rglob("*.proto")))
    assert sorted(made) == sorted(committed)
    different = [name for name in made if made[name] != committed[name]]
    assert different == [], "run `make gen`"


def test_all_that_is_not_generated_is_written_by_hand() -> None:
    tracked = {path.name for path in STUBS.iterdir() if path.is_file()}

    assert tracked - generated(STUBS).keys() == {"__init__.py"}


def test_the_committed_go_stubs_are_up_to_date(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        if os.environ.get("SIDECALL_REQUIRE_TOOLCHAINS") == "1":
            pytest.fail("no go on the PATH, and SIDECALL_REQUIRE_TOOLCHAINS=1")
        pytest.skip("no go on the PATH")

    generate("--only", "go", "--go-out", str(tmp_path))

    made = {path.name: path.read_bytes() for path in (tmp_path / "sidecallv1").iterdir()}
    committed = {path.name: path.read_bytes() for path in GO_STUBS.iterdir()}
    assert len(made) > len(list((ROOT / "protos").rglob("*.proto")))
    assert sorted(made) == sorted(committed)
    different = [name for name in made if made[name] != committed[name]]
    assert different == [], "run `make gen`"


def test_the_protos_pass_the_linter(fresh: Path) -> None:
    assert fresh.exists()
    buf("lint")


def test_the_protos_are_formatted() -> None:
    buf("format", "--diff", "--exit-code", "protos")


def test_the_linter_of_protos_can_fail(tmp_path: Path) -> None:
    """Guards against a configuration that checks nothing."""
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copytree(ROOT / "build" / "protos", tmp_path / "build" / "protos")
    proto = tmp_path / "protos" / "sidecall" / "v1" / "tool.proto"
    proto.write_text(proto.read_text() + "\nmessage lower_case {}\n")
    command = [str(Path(sys.executable).parent / "buf"), "lint"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603  fixed command

    assert done.returncode != 0
    assert "lower_case" in done.stdout
