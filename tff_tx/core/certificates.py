"""A certificate authority for tests, and certificates for the nodes of a Ray cluster and for participants.

Existing authorities do as well: Ray reads ca.crt, node.crt and node.key alone. It needs the package cryptography, and
is imported only by those who make certificates.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ipaddress
import os
import pathlib
import socket
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tff_tx.core.errors import UserError, setting

_LOCAL = ("localhost", "127.0.0.1")


@dataclasses.dataclass(frozen=True)
class NodeCertificate:
    """The certificate of a node.

    Attributes:
      directory: Its directory, the node's engine.ray_tls_dir: ca.crt, node.crt and node.key.
      hosts: Addresses and host names that it is for.
    """

    directory: str
    hosts: tuple[str, ...]

    def __str__(self) -> str:
        """Its use, with the shell command that sets the environment of `ray start`."""
        path = os.path.abspath(self.directory)
        return (
            f"{self.directory} is for {', '.join(self.hosts)}: name it there as the node's Ray TLS directory, or set\n"
            f"export RAY_USE_TLS=1 RAY_TLS_CA_CERT={path}/ca.crt RAY_TLS_SERVER_CERT={path}/node.crt "
            f"RAY_TLS_SERVER_KEY={path}/node.key"
        )


def make_node_certificate(directory: str, node: str, hosts: Sequence[str] = (), days: int = 365) -> NodeCertificate:
    """Writes a node's certificate, and an authority if there is none in the directory.

    The authority's key, `ca.key`, stays in the directory; whoever has it can admit any node.

    Args:
      directory: Directory of the authority, and of the nodes' directories.
      node: Name of the node, and of its directory.
      hosts: Addresses and host names by which others reach the node; default: those of this machine.
      days: Validity, in days.

    Raises:
      UserError: If the node exists, or the directory cannot be written.
    """
    name = f"{setting('certificates.node')}={node}"
    if os.path.basename(node) != node or not node:
        raise UserError(f"{name}: must be the name of a directory, without slashes.")
    node_dir = os.path.join(directory, node)
    if os.path.exists(node_dir):
        raise UserError(f"{name}: {node_dir} exists already; remove it, or choose another name.")
    hosts = tuple(dict.fromkeys([*(hosts or _own_hosts()), *_LOCAL]))
    try:
        os.makedirs(directory, exist_ok=True)
        authority = _authority(directory, days)
        key, certificate = issue(node, days, authority, hosts)
        os.makedirs(node_dir)
        _write(os.path.join(node_dir, "ca.crt"), authority[1])
        _write(os.path.join(node_dir, "node.crt"), certificate)
        _write_key(os.path.join(node_dir, "node.key"), key)
    except OSError as error:
        raise UserError(
            f"{setting('certificates.directory')}={directory} cannot be written ({error.strerror}): choose another."
        ) from None
    return NodeCertificate(node_dir, hosts)


def _authority(directory: str, days: int):
    """The authority's key and certificate, from the directory, or new in it."""
    key_path, path = (os.path.join(directory, name) for name in ("ca.key", "ca.crt"))
    if os.path.exists(key_path):
        key, certificate = (pathlib.Path(found).read_bytes() for found in (key_path, path))
        return serialization.load_pem_private_key(key, None), x509.load_pem_x509_certificate(certificate)
    key, certificate = issue("tff_tx test authority", days)
    _write(path, certificate)
    _write_key(key_path, key)
    return key, certificate


def issue(
    name: str,
    days: int = 365,
    authority: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None,
    hosts: Sequence[str] = _LOCAL,
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new key (ECDSA P-256) and its certificate.

    Args:
      name: Its common name.
      days: Validity, in days.
      authority: Key and certificate of who signs it; None: it is an authority itself.
      hosts: Addresses and host names that a certificate, other than an authority's, is for.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing_key, issuer = (key, subject) if authority is None else (authority[0], authority[1].subject)
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    if authority is not None:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]  # every node is both
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
    return key, builder.sign(signing_key, hashes.SHA256())


def _names(hosts: Sequence[str]) -> list:
    names = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _own_hosts() -> list[str]:
    """This machine's name, and the address from which it reaches others."""
    found = [socket.gethostname()]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("8.8.8.8", 53))  # sends nothing
        found.append(probe.getsockname()[0])
    return found


def _write(path: str, certificate: x509.Certificate) -> None:
    pathlib.Path(path).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: str, key) -> None:
    """Readable by its owner alone, from the start."""
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
