"""Makes the Python and the Go stubs and places the protos that they import.

Run by `make gen` in the environment of requirements/gen.txt. With --out DIR the Python stubs,
with --go-out DIR the Go stubs go there instead, for the tests that compare them with the
committed ones. Where no Go is installed, the Go stubs are left as they are.
"""

import argparse
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUBS = ROOT / "client" / "python"
THIRD_PARTY = ROOT / "build" / "protos"
GO_MODULE = "sidecall.dev/go"
GO_CLIENT = ROOT / "client" / "go"
GO_PLUGINS = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}
GOOGLE_RPC = ("status.proto", "error_details.proto")


def place_google_protos() -> None:
    """Copies the google.rpc protos from their package to where buf.yaml names them."""
    target = THIRD_PARTY / "google" / "rpc"
    target.mkdir(parents=True, exist_ok=True)
    for name in GOOGLE_RPC:
        shutil.copyfile(str(files("google.rpc") / name), target / name)


def run_protoc(*outputs: str) -> None:
    """Runs protoc over all protos of the contract; raises SystemExit on failure."""
    from grpc_tools import protoc  # noqa: PLC0415  only in the generator's own environment

    protos = sorted(str(p) for p in (ROOT / "protos").rglob("*.proto"))
    well_known = str(files("grpc_tools") / "_proto")
    includes = (f"-I{ROOT / 'protos'}", f"-I{THIRD_PARTY}", f"-I{well_known}")
    status = protoc.main(["protoc", *includes, *outputs, *protos])
    if status != 0:
        raise SystemExit(status)


def generate_python(out: Path) -> None:
    """Makes the Python stubs."""
    out.mkdir(parents=True, exist_ok=True)
    run_protoc(
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out={out}",
        f"--mypy_grpc_out={out}",
    )


def generate_go(out: Path) -> None:
    """Makes the Go stubs with the plugins that client/go/tools/go.mod pins."""
    go = shutil.which("go")
    if go is None:
        print("Go stubs: skipped, no go on the PATH", file=sys.stderr)
        return
    out.mkdir(parents=True, exist_ok=True)
    plugins = ROOT / "build" / "go"
    command = [go, "build", "-modfile=tools/go.mod", "-o", f"{plugins}{os.sep}"]
    plugins.mkdir(parents=True, exist_ok=True)
    built = subprocess.run([*command, *GO_PLUGINS.values()], cwd=GO_CLIENT, check=False)
    if built.returncode != 0:
        raise SystemExit("Go stubs: the plugins of protoc cannot be built")
    run_protoc(
        *(f"--plugin={name}={plugins / name}" for name in GO_PLUGINS),
        f"--go_out={out}",
        f"--go_opt=module={GO_MODULE}",
        f"--go-grpc_out={out}",
        f"--go-grpc_opt=module={GO_MODULE}",
    )


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=STUBS)
    parser.add_argument("--go-out", type=Path, default=GO_CLIENT)
    parser.add_argument("--only", choices=("python", "go"), help="one language alone")
    parser.add_argument("--protos-only", action="store_true", help="place the google protos")
    options = parser.parse_args()
    place_google_protos()
    if options.protos_only:
        return
    if options.only != "go":
        generate_python(options.out)
    if options.only != "python":
        generate_go(options.go_out)


if __name__ == "__main__":
    main()
