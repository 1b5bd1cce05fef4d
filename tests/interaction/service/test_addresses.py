"""Addresses: taken ones, stale ones, and who may connect."""

import errno
import signal
import socket
import stat
from pathlib import Path

import grpc
import pytest
from tests.interaction.conftest import StartProcess, StartServing
from tests.support.batches import batch, call
from tests.support.serving import Serving, stub_of
from tests.support.sidecar import SidecarProcess, free_address

from sidecall_server.app import Sidecar, running
from sidecall_server.config import ConfigError, load
from sidecall_server.transport.addresses import AddressError, TcpAddress


async def answers(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        response = await stub_of(channel).ExecuteBatch(batch(call("nothing")), timeout=30)
        return [result.content for result in response.results] == ["done"]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_second_sidecar_on_an_address_refuses_to_start(
    start_process: StartProcess, kind: str
) -> None:
    first = start_process(kind)
    second = start_process(first.address, wait=False)
    assert await second.ended() == 1
    assert first.address in second.log()
    assert "Traceback" not in second.log()
    assert await answers(first.address)


async def test_a_second_sidecar_in_one_process(start_sidecar: StartServing, folder: Path) -> None:
    for address in (free_address(), f"unix:{folder}/api.sock"):
        first: Serving = await start_sidecar(listen=address)
        with pytest.raises(AddressError, match="listen"):
            await Sidecar(load({"listen": address}, environ={})).start()
        assert await answers(first.address)


async def test_one_taken_address_of_two_serves_nothing(
    start_sidecar: StartServing, folder: Path
) -> None:
    first: Serving = await start_sidecar()
    free = f"unix:{folder}/free.sock"
    with pytest.raises(AddressError):
        await Sidecar(load({"listen": [free, first.address]}, environ={})).start()
    again: Serving = await start_sidecar(listen=free)
    assert await answers(again.address)


async def test_a_stale_socket_is_replaced(start_sidecar: StartServing, folder: Path) -> None:
    path = folder / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    sidecar: Serving = await start_sidecar(listen=f"unix:{path}")
    assert await answers(sidecar.address)


async def test_a_socket_that_another_program_listens_on_is_left_alone(folder: Path) -> None:
    path = folder / "api.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(AddressError, match="another process"):
            await Sidecar(load({"listen": f"unix:{path}"}, environ={})).start()
        assert path.is_socket()


async def test_a_regular_file_is_not_replaced(folder: Path) -> None:
    path = folder / "api.sock"
    path.write_text("precious")
    with pytest.raises(AddressError, match="not a socket"):
        await Sidecar(load({"listen": f"unix:{path}"}, environ={})).start()
    assert path.read_text() == "precious"


async def test_a_socket_is_open_to_owner_and_group_only(
    start_sidecar: StartServing, folder: Path
) -> None:
    path = folder / "api.sock"
    await start_sidecar(listen=f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


async def test_a_socket_is_removed_at_the_end(folder: Path) -> None:
    path = folder / "deep" / "api.sock"
    for _ in range(2):
        async with running(load({"listen": f"unix:{path}"}, environ={})):
            assert path.is_socket()
        assert not path.exists()


async def test_a_path_that_is_too_long_is_refused(folder: Path) -> None:
    with pytest.raises(AddressError, match=r"the path takes [0-9]+ bytes, at most 10[37]"):
        await Sidecar(load({"listen": f"unix:{folder}/{'x' * 120}"}, environ={})).start()
    assert not (folder / f"{'x' * 120}.lock").exists()


async def test_a_link_in_place_of_the_lock_file_is_not_followed(folder: Path) -> None:
    (folder / "api.sock.lock").symlink_to(folder / "elsewhere")
    with pytest.raises(AddressError, match=f"unix:{folder}/api.sock"):
        await Sidecar(load({"listen": f"unix:{folder}/api.sock"}, environ={})).start()
    assert not (folder / "elsewhere").exists()


@pytest.mark.parametrize("refused", ["lstat", "unlink", "chmod", "mkdir"])
async def test_what_the_system_refuses_ends_the_start_and_holds_nothing(
    start_sidecar: StartServing, folder: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    path = folder / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, refused, refuse)
        with pytest.raises(AddressError, match="Permission denied"):
            await Sidecar(load({"listen": f"unix:{path}"}, environ={})).start()
    again: Serving = await start_sidecar(listen=f"unix:{path}")
    assert await answers(again.address)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("127.evil.example", False),
        ("127.1", False),
        ("localhost.evil.example", False),
        ("192.0.2.1", False),
        ("::", False),
    ],
)
def test_which_hosts_are_loopback(host: str, is_loopback: bool) -> None:
    assert TcpAddress(host, 1).is_loopback is is_loopback


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50071", "example.com:1"])
async def test_addresses_that_others_reach_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        Sidecar(load({"listen": address}, environ={}))


@pytest.mark.parametrize(
    "address",
    ["nonsense", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:²", "unix:", ":x", "unix:/a\0"],
)
async def test_text_that_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError):
        Sidecar(load({"listen": address}, environ={}))


async def test_a_killed_sidecar_is_followed_by_another_on_its_path(
    start_process: StartProcess,
) -> None:
    first = start_process("unix")
    first.signal(signal.SIGKILL)
    assert await first.ended() == -signal.SIGKILL
    assert first.socket_path.is_socket()
    second = start_process(first.address)
    assert await answers(second.address)


async def test_a_client_survives_the_restart_of_its_sidecar(start_process: StartProcess) -> None:
    first = start_process("unix")
    async with grpc.aio.insecure_channel(first.address) as channel:
        stub = stub_of(channel)
        assert (await stub.ExecuteBatch(batch(call("nothing")))).results[0].content == "done"
        first.kill()
        start_process(first.address)
        response = await stub.ExecuteBatch(batch(call("nothing")), wait_for_ready=True, timeout=30)
        assert response.results[0].content == "done"


async def test_one_service_on_either_kind_of_address(
    unix_sidecar: SidecarProcess, tcp_sidecar: SidecarProcess
) -> None:
    for sidecar in (unix_sidecar, tcp_sidecar):
        assert await answers(sidecar.address)
        assert sidecar.signs_of_bugs() == []
