"""Makes the Python stubs and places the protos that they import.

Run by `make gen` in the environment of requirements/gen.txt. With --out DIR the stubs go
there instead, for the test that compares them with the committed ones.
"""

import argparse
import shutil
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUBS = ROOT / "client" / "python"
THIRD_PARTY = ROOT / "build" / "protos"
GOOGLE_RPC = ("status.proto", "error_details.proto")


def place_google_protos() -> None:
    """Copies the google.rpc protos from their package to where buf.yaml names them."""
    target = THIRD_PARTY / "google" / "rpc"
    target.mkdir(parents=True, exist_ok=True)
    for name in GOOGLE_RPC:
        shutil.copyfile(str(files("google.rpc") / name), target / name)


def generate(out: Path) -> None:
    """Runs protoc over all protos of the contract; raises SystemExit on failure."""
    from grpc_tools import protoc  # noqa: PLC0415  only in the generator's own environment

    protos = sorted(str(p) for p in (ROOT / "protos").rglob("*.proto"))
    well_known = str(files("grpc_tools") / "_proto")
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT / 'protos'}",
            f"-I{THIRD_PARTY}",
            f"-I{well_known}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out={out}",
            f"--mypy_grpc_out={out}",
            *protos,
        ]
    )
    if status != 0:
        raise SystemExit(status)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=STUBS)
    parser.add_argument("--protos-only", action="store_true", help="place the google protos")
    options = parser.parse_args()
    place_google_protos()
    if not options.protos_only:
        options.out.mkdir(parents=True, exist_ok=True)
        generate(options.out)


if __name__ == "__main__":
    main()
