import pytest

from sidecall._connection import Connection


def test_the_default_is_loopback() -> None:
    connection = Connection.resolve(environ={})
    assert connection.target == "127.0.0.1:50071"
    assert dict(connection.options)["grpc.max_receive_message_length"] == 16 * 1024 * 1024
    assert dict(connection.options)["grpc.enable_http_proxy"] == 0


def test_the_argument_goes_before_the_environment() -> None:
    environ = {"SIDECALL_ENDPOINT": "host:1", "SIDECALL_MAX_INBOUND_MESSAGE_BYTES": "1000"}
    assert Connection.resolve(environ=environ).target == "host:1"
    given = Connection.resolve("other:2", max_message_bytes=2000, environ=environ)
    assert given.target == "other:2"
    assert dict(given.options)["grpc.max_send_message_length"] == 2000
    assert "grpc.enable_http_proxy" not in dict(given.options)


def test_a_unix_socket_has_an_authority_of_its_own() -> None:
    connection = Connection.resolve("unix:/run/api.sock", environ={})
    assert dict(connection.options)["grpc.default_authority"] == "localhost"


def test_a_token_becomes_a_bearer_token() -> None:
    connection = Connection.resolve(token="t", metadata=[("x-a", "b")], environ={})  # noqa: S106  not a secret
    assert connection.metadata == (("x-a", "b"), ("authorization", "Bearer t"))


@pytest.mark.parametrize("endpoint", ["localhost", ":1", "http://host:1", "host:port", "host:"])
def test_a_malformed_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        Connection.resolve(endpoint, environ={})


def test_an_empty_variable_is_none() -> None:
    environ = {"SIDECALL_ENDPOINT": "", "SIDECALL_MAX_INBOUND_MESSAGE_BYTES": ""}
    assert Connection.resolve(environ=environ) == Connection.resolve(environ={})


@pytest.mark.parametrize("size", ["many", "-1"])
def test_a_malformed_message_size_is_refused(size: str) -> None:
    environ = {"SIDECALL_MAX_INBOUND_MESSAGE_BYTES": size}
    with pytest.raises(ValueError, match="SIDECALL_MAX_INBOUND_MESSAGE_BYTES"):
        Connection.resolve(environ=environ)


def test_a_message_size_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_message_bytes"):
        Connection.resolve(max_message_bytes=0, environ={})
