"""A certificate authority, and certificates for the nodes of a Ray cluster and the parties of a federation.

Existing authorities do as well: a kit is ca.crt, node.crt and node.key. It needs the package cryptography, and is
imported only by those who make or use certificates.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ipaddress
import json
import os
import pathlib
import socket
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tff_tx.core import files
from tff_tx.core.errors import UserError, setting

PARTICIPANTS = "participants.json"
"""The allow-list in the authority's directory: the fingerprint of the certificate of each who joins, by its name."""

_LOCAL = ("localhost", "127.0.0.1")
_USAGES = {
    "node": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),  # every node is both
    "coordinator": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "participant": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    # An object identifier made of a UUID: what it is for is known here alone.
    "keyholder": (
        ExtendedKeyUsageOID.CLIENT_AUTH,
        x509.ObjectIdentifier("2.25.119842146335353456149652919347269458667"),
    ),
}
_LISTED = ("participant", "keyholder")
_AUTHORITY_DAYS = 3650  # kits are renewed, and all of them hold its certificate
ROLES = tuple(_USAGES)
"""What a certificate is for; a participant's makes it neither a coordinator nor the key holder."""


@dataclasses.dataclass(frozen=True)
class NodeCertificate:
    """The certificate of a node.

    Attributes:
      directory: Its directory, the node's engine.ray_tls_dir: ca.crt, node.crt and node.key.
      hosts: Addresses and host names that it is for.
      role: One of `ROLES`.
    """

    directory: str
    hosts: tuple[str, ...]
    role: str = "node"

    def __str__(self) -> str:
        """Its use, with the shell command that sets the environment of `ray start`."""
        path = os.path.abspath(self.directory)
        if self.role != "node":
            return f"{self.directory} is the kit of the {self.role}, and goes to its machine; nothing else does."
        return (
            f"{self.directory} is for {', '.join(self.hosts)}: name it there as the node's Ray TLS directory, or set\n"
            f"export RAY_USE_TLS=1 RAY_TLS_CA_CERT={path}/ca.crt RAY_TLS_SERVER_CERT={path}/node.crt "
            f"RAY_TLS_SERVER_KEY={path}/node.key"
        )


def make_node_certificate(
    directory: str, node: str, hosts: Sequence[str] = (), days: int = 365, role: str = "node"
) -> NodeCertificate:
    """Writes the certificate of a node or a party, and an authority if there is none in the directory.

    The authority's key, `ca.key`, stays in the directory; whoever has it can admit any node. A participant and a key
    holder are added to the allow-list `PARTICIPANTS`.

    Args:
      directory: Directory of the authority, and of the nodes' directories.
      node: Name of the node, and of its directory.
      hosts: Addresses and host names by which others reach the node; default: those of this machine.
      days: Validity, in days.
      role: One of `ROLES`.

    Raises:
      UserError: If the node exists, or the directory cannot be written.
    """
    node_dir = _kit(directory, node)
    if os.path.exists(node_dir):
        raise UserError(
            f"{setting('certificates.node')}={node}: {node_dir} exists already; remove it, or choose another name."
        )
    hosts = tuple(dict.fromkeys([*(hosts or _own_hosts()), *_LOCAL]))
    with _writing(directory):
        os.makedirs(directory, exist_ok=True)
        _write_kit(directory, node, _authority(directory, days), days, role, hosts)
    return NodeCertificate(node_dir, hosts, role)


def renew(directory: str, node: str, days: int = 365) -> NodeCertificate:
    """Replaces a kit's key and certificate by new ones for the same role and hosts.

    Whoever was on the allow-list is on it with the new certificate alone.

    Raises:
      UserError: If there is no such kit, or the directory cannot be written.
    """
    before = read_certificate(os.path.join(_kit(directory, node), "node.crt"))
    names = before.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = tuple(map(str, (*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress))))
    with _writing(directory):
        _write_kit(directory, node, _authority(directory, days), days, role_of(before), hosts)
    return NodeCertificate(_kit(directory, node), hosts, role_of(before))


def revoke(directory: str, node: str) -> None:
    """Takes a participant off the allow-list, which a running coordinator notices at once.

    Raises:
      UserError: If it is not on the list.
    """
    allowed = read_participants(os.path.join(directory, PARTICIPANTS))
    if node not in allowed:
        raise UserError(
            f"{setting('certificates.node')}={node}: must be one of the participants "
            f"{', '.join(sorted(allowed)) or '(none)'} in {os.path.join(directory, PARTICIPANTS)}."
        )
    del allowed[node]
    with _writing(directory):
        files.write_json(os.path.join(directory, PARTICIPANTS), allowed)


def describe(directory: str) -> list[str]:
    """A line for each certificate in the authority's directory: role, fingerprint, and when it expires."""
    allowed, lines = read_participants(os.path.join(directory, PARTICIPANTS)), []
    for path in sorted(pathlib.Path(directory).glob("*.crt")) + sorted(pathlib.Path(directory).glob("*/node.crt")):
        found = read_certificate(str(path))
        left = (found.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)).days
        name, role = (path.parent.name, role_of(found)) if path.name == "node.crt" else ("ca", "authority")
        state = "expired" if left < 0 else f"expires in {left} days"
        if role in _LISTED and allowed.get(name) != fingerprint(found).hex():
            state += ", revoked"
        lines.append(f"{name}: {role}, {state}, {fingerprint(found).hex()}")
    return lines


def participants_beside(kit: str) -> str:
    """Path of the allow-list beside a node's directory, in that of the authority."""
    return os.path.join(os.path.dirname(os.path.abspath(kit)), PARTICIPANTS)


def read_participants(path: str) -> dict[str, str]:
    """The allow-list: fingerprints in hexadecimal digits by name; empty where there is none.

    Raises:
      UserError: If it cannot be read.
    """
    try:
        found = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        return {str(name): str(digits) for name, digits in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no list of participants ({error}): restore it.") from None


def read_certificate(path: str) -> x509.Certificate:
    """A certificate in PEM form.

    Raises:
      UserError: If there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pathlib.Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is no certificate ({getattr(error, 'strerror', None) or error}): make a kit with "
            "`python -m programs.certs`."
        ) from None


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of a certificate, 32 bytes."""
    return certificate.fingerprint(hashes.SHA256())


def name_of(certificate: x509.Certificate) -> str:
    """The name that a certificate is issued to."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def role_of(certificate: x509.Certificate) -> str:
    """Its role, one of `ROLES`, by what the authority lets it be used for; "" if it is for none of them."""
    try:
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return ""
    return next((role for role, wanted in _USAGES.items() if usages == set(wanted)), "")


def _kit(directory: str, node: str) -> str:
    if os.path.basename(node) != node or not node:
        raise UserError(f"{setting('certificates.node')}={node}: must be the name of a directory, without slashes.")
    return os.path.join(directory, node)


@contextlib.contextmanager
def _writing(directory: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{setting('certificates.directory')}={directory} cannot be written ({error.strerror}): choose another."
        ) from None


def _write_kit(directory, node, authority, days, role, hosts) -> None:
    """Writes a kit; that of one who joins comes onto the allow-list last."""
    node_dir = os.path.join(directory, node)
    key, certificate = issue(node, days, authority, hosts, role)
    os.makedirs(node_dir, exist_ok=True)
    for name in ("ca.crt", "node.crt", "node.key"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(node_dir, name))
    _write_key(os.path.join(node_dir, "node.key"), key)
    _write(os.path.join(node_dir, "node.crt"), certificate)
    _write(os.path.join(node_dir, "ca.crt"), authority[1])
    if role in _LISTED:
        path = os.path.join(directory, PARTICIPANTS)
        files.write_json(path, {**read_participants(path), node: fingerprint(certificate).hex()})


def _authority(directory: str, days: int):
    """The authority's key and certificate, from the directory, or new in it."""
    key_path, path = (os.path.join(directory, name) for name in ("ca.key", "ca.crt"))
    if os.path.exists(key_path):
        key, certificate = (pathlib.Path(found).read_bytes() for found in (key_path, path))
        return serialization.load_pem_private_key(key, None), x509.load_pem_x509_certificate(certificate)
    key, certificate = issue("tff_tx authority", max(days, _AUTHORITY_DAYS))
    _write(path, certificate)
    _write_key(key_path, key)
    return key, certificate


def issue(
    name: str,
    days: int = 365,
    authority: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None,
    hosts: Sequence[str] = _LOCAL,
    role: str = "node",
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new key (ECDSA P-256) and its certificate.

    Args:
      name: Its common name.
      days: Validity, in days.
      authority: Key and certificate of who signs it; None: it is an authority itself.
      hosts: Addresses and host names that a certificate, other than an authority's, is for.
      role: One of `ROLES`.
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
        builder = builder.add_extension(x509.ExtendedKeyUsage(_USAGES[role]), critical=False)
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
