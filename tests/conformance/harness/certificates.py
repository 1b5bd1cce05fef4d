"""Certificates for the proxy and for clients, made by the openssl command."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

_CONFIGURATION = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[leaf]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
"""
_DAYS = "2"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM.

    Attributes:
        ca: Certificate of the authority that signed the others.
        folder: Where `server.pem`, `server.key`, `client.pem` and `client.key` are.
    """

    ca: Path
    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Self | None:
        """Makes them; None where there is no openssl command."""
        openssl = shutil.which("openssl")
        if openssl is None:
            return None
        configuration = folder / "openssl.cnf"
        configuration.write_text(_CONFIGURATION)
        new = ("req", "-x509", "-config", str(configuration), "-nodes", "-days", _DAYS)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        signed = ("-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"))
        for name in ("ca", "server", "client"):
            files = ("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem"))
            kind = (
                ("-extensions", "authority") if name == "ca" else ("-extensions", "leaf", *signed)
            )
            _run(openssl, *new, *key, *files, *kind, "-subj", f"/CN=conformance {name}")
        ca = folder / "ca.pem"
        return cls(ca, folder)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a server that asks for a client's certificate."""
        key, certificate = (self.folder / "server.key"), (self.folder / "server.pem")
        return grpc.ssl_server_credentials(
            [(key.read_bytes(), certificate.read_bytes())],
            root_certificates=self.ca.read_bytes(),
            require_client_auth=True,
        )

    def of_client(self) -> dict[str, str]:
        """What a runner is told."""
        return {
            "ca_file": str(self.ca),
            "cert_file": str(self.folder / "client.pem"),
            "key_file": str(self.folder / "client.key"),
        }


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603  fixed command
