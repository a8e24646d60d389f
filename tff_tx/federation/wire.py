"""What both ends of the transport have in common: gRPC over mutual TLS 1.3."""

from __future__ import annotations

import datetime
import os
import pathlib
from collections.abc import Collection

import grpc
from cryptography.exceptions import InvalidSignature

from tff_tx.core import certificates
from tff_tx.core.errors import UserError, setting
from tff_tx.federation.secure_sums.identities import Authority, Identity

SERVICE = "tff_tx.federation.v1.Federation"
OPTIONS = (
    ("grpc.max_receive_message_length", 5 << 20),  # of a chunk
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.so_reuseport", 0),  # or a second coordinator would silently share the port
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


def load_kit(directory: str, role: str, participants: Collection[str] | None = None) -> tuple[Identity, Authority]:
    """The identity of a kit of `certificates.make_node_certificate`, and its authority.

    Args:
      directory: Of the kit.
      role: It must be for.
      participants: As of `Authority`.

    Raises:
      UserError: If it cannot be read, is for another role, has expired or is not of its authority.
    """
    found = certificates.read_certificate(os.path.join(directory, "node.crt"))
    if certificates.role_of(found) not in (role, "node"):
        raise UserError(
            f"{directory} is the kit of a {certificates.role_of(found)}, not of a {role}: make one by "
            f"`python -m programs.certs` with {setting('certificates.role')}={role}."
        )
    now = datetime.datetime.now(datetime.timezone.utc)
    if found.not_valid_after_utc < now:
        raise UserError(
            f"{directory}: the certificate expired on {found.not_valid_after_utc:%Y-%m-%d}; renew it with "
            "`python -m programs.certs`."
        )
    if found.not_valid_before_utc > now:
        raise UserError(
            f"{directory}: the certificate is valid from {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, and this "
            f"machine's clock says {now:%Y-%m-%d %H:%M}: set it right."
        )
    try:
        found.verify_directly_issued_by(certificates.read_certificate(os.path.join(directory, "ca.crt")))
    except (ValueError, InvalidSignature):
        raise UserError(
            f"{directory}: node.crt is not of the authority in ca.crt; copy all files of one kit there."
        ) from None
    try:
        identity, authority = Identity.load(directory), Authority.load(directory, participants=participants)
        if identity.key.public_key() != found.public_key():
            raise ValueError("node.key is not the key of node.crt")
        return identity, authority
    except (OSError, ValueError) as error:
        raise UserError(f"{directory} is no kit ({error}): make one with `python -m programs.certs`.") from None


def _files(directory: str) -> tuple[bytes, bytes, bytes]:
    return tuple(pathlib.Path(directory, name).read_bytes() for name in ("ca.crt", "node.key", "node.crt"))


def server_credentials(directory: str) -> grpc.ServerCredentials:
    """Of the coordinator, who rejects whom the authority has not certified."""
    authority, key, certificate = _files(directory)
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)


def channel(address: str, directory: str) -> grpc.Channel:
    """A participant's connection to a coordinator."""
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*_files(directory)), OPTIONS)
