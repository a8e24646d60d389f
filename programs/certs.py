"""Makes a certificate authority for tests, and certificates for the nodes of a Ray cluster: `python -m programs.certs`.

Each call adds a node: its directory is for that node's --ray_tls_dir. The authority's key, `ca.key`, stays where it is;
who has it can let anybody in. Authorities that already exist do the same: all that Ray reads is ca.crt, node.crt and
node.key.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket

from absl import flags
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from programs import cli
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_string("directory", "certs", "Where the authority is, made if need be, and the nodes' directories.")
flags.DEFINE_string("node", "node", "The node's name, and that of its directory.")
flags.DEFINE_list(
    "hosts", [], "Addresses and host names by which others reach the node; default: those of this machine."
)
flags.DEFINE_integer("days", 365, "How long a certificate is valid.", lower_bound=1)

_LOCAL = ("localhost", "127.0.0.1")


def main(_) -> None:
    """Writes the authority, if need be, and a node's certificate."""
    if os.path.basename(FLAGS.node) != FLAGS.node or not FLAGS.node:
        raise UserError(f"--node={FLAGS.node} is the name of a directory in --directory: choose one without slashes.")
    node_dir = os.path.join(FLAGS.directory, FLAGS.node)
    if os.path.exists(node_dir):
        raise UserError(f"--node={FLAGS.node}: {node_dir} exists already; remove it, or choose another name.")
    try:
        os.makedirs(FLAGS.directory, exist_ok=True)
        authority = _authority(FLAGS.directory, FLAGS.days)
        hosts = list(dict.fromkeys([*(FLAGS.hosts or _own_hosts()), *_LOCAL]))
        key, certificate = _certificate(FLAGS.node, FLAGS.days, authority, _names(hosts))
        os.makedirs(node_dir)
        _write(os.path.join(node_dir, "ca.crt"), _pem(authority[1]))
        _write(os.path.join(node_dir, "node.crt"), _pem(certificate))
        _write_key(os.path.join(node_dir, "node.key"), key)
    except OSError as error:
        raise UserError(f"--directory={FLAGS.directory} cannot be written ({error}): choose another.") from None
    print(f"{node_dir} is for {', '.join(hosts)}: give it as --ray_tls_dir there, or set\n{_environment(node_dir)}")


def _environment(node_dir: str) -> str:
    """What `ray start` has to find in its environment."""
    path = os.path.abspath(node_dir)
    return (
        f"export RAY_USE_TLS=1 RAY_TLS_CA_CERT={path}/ca.crt RAY_TLS_SERVER_CERT={path}/node.crt "
        f"RAY_TLS_SERVER_KEY={path}/node.key"
    )


def _authority(directory: str, days: int):
    """The authority's key and certificate, from the directory, or new in it."""
    key_path, path = (os.path.join(directory, name) for name in ("ca.key", "ca.crt"))
    if os.path.exists(key_path):
        with open(key_path, "rb") as key_file, open(path, "rb") as file:
            key = serialization.load_pem_private_key(key_file.read(), None)
            return key, x509.load_pem_x509_certificate(file.read())
    key, certificate = _certificate("tff_tx test authority", days, None, None)
    _write(path, _pem(certificate))
    _write_key(key_path, key)
    return key, certificate


def _certificate(name: str, days: int, authority, names):
    """A key and its certificate, signed by an authority, or by itself as one."""
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
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return key, builder.sign(signing_key, hashes.SHA256())


def _names(hosts: list[str]) -> list:
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


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def _write_key(path: str, key) -> None:
    """Readable by its owner alone, from the start."""
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


if __name__ == "__main__":
    cli.run(main)
