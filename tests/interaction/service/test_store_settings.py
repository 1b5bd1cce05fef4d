"""The store as a setting: on the command line, in the environment, in a file; one sidecar each."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from tests.interaction.conftest import StartProcess, StartServing
from tests.interaction.service.test_kill import TOOLS
from tests.support.batches import batch, call, reason, rpc_status
from tests.support.command import LONGEST_S, read_until, sidecall, started
from tests.support.gate import WAIT_S
from tests.support.serving import stub_of

from sidecall.v1.tool_service_pb2 import GetCapabilitiesRequest
from sidecall_server.core.records import Scope
from sidecall_server.store.database import Database


async def _durable(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = stub_of(channel)
        request = GetCapabilitiesRequest()
        return bool((await stub.GetCapabilities(request, timeout=WAIT_S)).durable_requests)


def _write(folder: Path, store: str) -> Path:
    path = folder / "sidecall.yaml"
    path.write_text(f"store: {store}\ntools: [{{python: {TOOLS}}}]\n")
    return path


@pytest.mark.parametrize("where", ["flag", "file"])
def test_a_store_is_named(folder: Path, where: str) -> None:
    address, db = f"unix:{folder}/api.sock", folder / "calls.db"
    serve = ["serve", "--listen", address]
    if where == "flag":
        serve += ["--tools", str(TOOLS), "--store", f"sqlite:///{db}"]
    else:
        serve += ["--config", str(_write(folder, "sqlite:///calls.db"))]
    with started(*serve) as process:
        read_until(process, "serving")
        assert asyncio.run(_durable(address))
        assert db.stat().st_mode & 0o077 == 0
        process.terminate()
        assert process.wait(LONGEST_S) == 0


async def test_without_one_nothing_survives(start_process: StartProcess) -> None:
    sidecar = start_process("unix", tools=TOOLS)
    assert not await _durable(sidecar.address)


async def test_one_named_in_the_environment(start_process: StartProcess, folder: Path) -> None:
    sidecar = start_process("unix", tools=TOOLS, store=f"sqlite:///{folder}/calls.db")
    assert await _durable(sidecar.address)


def test_a_second_sidecar_on_one_file_is_refused(start_process: StartProcess, folder: Path) -> None:
    store = f"sqlite:///{folder}/calls.db"
    start_process("unix", tools=TOOLS, store=store)
    address = f"unix:{folder}/other.sock"
    done = sidecall("serve", "--tools", TOOLS, "--listen", address, "--store", store)

    assert done.returncode == 1
    assert "is in use by another process: each sidecar needs a file of its own" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(address.removeprefix("unix:")).exists()


@pytest.mark.parametrize(
    ("store", "code", "says"),
    [
        ("redis://x", 64, "is not a store: memory, sqlite:///relative.db"),
        ("sqlite:///", 64, "is not a store: memory, sqlite:///relative.db"),
        ("sqlite:////no/such/folder/x.db", 64, "/no/such/folder/x.db"),
    ],
)
def test_a_store_that_cannot_be(folder: Path, store: str, code: int, says: str) -> None:
    address = f"unix:{folder}/api.sock"
    done = sidecall("serve", "--tools", TOOLS, "--listen", address, "--store", store)

    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_store_that_cannot_be_read(
    start_sidecar: StartServing, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = await start_sidecar(tools=str(TOOLS), store=f"sqlite:///{folder}/calls.db")
    request = batch(
        call("write", {"path": str(folder / "lines"), "name": "a"}, idempotency_key="k"),
        request_id="r",
    )

    def broken(self: Database, scope: Scope, now_ms: int) -> None:
        raise OSError(os.strerror(5))

    monkeypatch.setattr(Database, "load", broken)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.stub.ExecuteBatch(request, timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(rpc_status(caught.value)) == "STORE_UNAVAILABLE"
    assert not (folder / "lines").exists()
    monkeypatch.undo()
    response = await serving.stub.ExecuteBatch(request, timeout=WAIT_S)
    assert [result.content for result in response.results] == ["did a"]


def _text(path: Path) -> None:
    path.write_text("Remember the milk.")


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE scopes (name)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "the folder "),
        (Path.mkdir, "is a folder, not a file"),
        (os.mkfifo, "is not a regular file"),
        (_text, "is not a database"),
        (_foreign, "is the database of another program"),
    ],
)
def test_a_wrong_store_is_told_by_check_and_by_serve(
    folder: Path, make: Callable[[Path], None], says: str
) -> None:
    path = folder / "calls.db" if says != "the folder " else folder / "none" / "calls.db"
    make(path)
    before = sorted(folder.iterdir())
    options = ("--tools", TOOLS, "--store", f"sqlite:///{path}")
    for command in ("check", "serve"):
        done = sidecall(command, *options, "--listen", f"unix:{folder}/api.sock")
        assert done.returncode == 64
        assert done.stderr.startswith(f"Error: --store: {path}: {says}")
    assert sorted(folder.iterdir()) == before


def test_check_tells_the_store_and_the_tools(folder: Path) -> None:
    done = sidecall("check", "--tools", "none.py", "--store", f"sqlite:///{folder}")
    assert done.returncode == 64
    assert "Error: 2 mistakes:" in done.stderr
    assert "is a folder, not a file" in done.stderr
    assert "none.py: no such file" in done.stderr


def test_check_makes_no_store_and_looks_at_one_in_use(
    start_process: StartProcess, folder: Path
) -> None:
    store = f"sqlite:///{folder}/calls.db"
    options = ("check", "--tools", TOOLS, "--store", store)
    assert sidecall(*options).returncode == 0
    assert not (folder / "calls.db").exists()
    start_process("unix", tools=TOOLS, store=store)
    assert sidecall(*options).returncode == 0
