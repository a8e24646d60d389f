"""Who signed what: ECDSA P-256 signatures by keys that an authority's certificates name."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import pathlib
from collections.abc import Collection, Iterable
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tff_tx.core import certificates
from tff_tx.federation.secure_sums.errors import SecureSumError

_ALGORITHM = ec.ECDSA(hashes.SHA256())
_DOMAIN = "tff_tx secure sums 1"


def digest(purpose: str, *parts: bytes) -> bytes:
    """SHA-256 of a purpose and some parts, each with its length: no two lists of parts are alike."""
    found = hashlib.sha256()
    for part in (_DOMAIN.encode(), purpose.encode(), *parts):
        found.update(len(part).to_bytes(8, "big") + part)
    return found.digest()


@dataclasses.dataclass(frozen=True)
class Identity:
    """A participant's own key and certificate.

    Attributes:
      key: The private key.
      certificate: In DER.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: bytes

    @classmethod
    def of(cls, issued: tuple[ec.EllipticCurvePrivateKey, x509.Certificate]) -> Identity:
        """Of what `certificates.issue` gave."""
        return cls(issued[0], issued[1].public_bytes(serialization.Encoding.DER))

    @classmethod
    def load(cls, directory: str) -> Identity:
        """Of node.key and node.crt in a directory of `certificates.make_node_certificate`."""
        key, certificate = (pathlib.Path(directory, name).read_bytes() for name in ("node.key", "node.crt"))
        return cls.of((serialization.load_pem_private_key(key, None), x509.load_pem_x509_certificate(certificate)))

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate: who this is, to everybody."""
        return fingerprint(self.certificate)

    def sign(self, message: bytes) -> bytes:
        """Signature of a `digest`, at most 72 bytes."""
        return self.key.sign(message, _ALGORITHM)


def fingerprint(certificate: bytes) -> bytes:
    """SHA-256 of a certificate in DER."""
    return hashlib.sha256(certificate).digest()


def require_distinct(held: Iterable[bytes]) -> None:
    """Checks that certificates, in DER, are of different names; SecureSumError: one has two."""
    names = [certificates.name_of(x509.load_der_x509_certificate(one)) for one in held]
    if len(set(names)) < len(names):
        raise SecureSumError("two clients are one participant, by the name of their certificates.")


class Authority:
    """Checks signatures of those whom the federation's authority has certified.

    Args:
      certificate: The authority's, in DER.
      admitted: Fingerprints of the certificates that take part; None: all that are valid.
      participants: Names of those that take part, by certificates of their role; None: all.
      role: The role of these.
    """

    def __init__(
        self,
        certificate: bytes,
        admitted: Collection[bytes] | None = None,
        participants: Collection[str] | None = None,
        role: str = "participant",
    ):
        self._authority, self._admitted = x509.load_der_x509_certificate(certificate), admitted
        self._participants, self._role = participants, role
        self._keys: dict[bytes, tuple] = {}

    @classmethod
    def load(cls, directory: str, **admission: Any) -> Authority:
        """Of ca.crt in a directory; `admission` as of the constructor."""
        found = x509.load_pem_x509_certificate(pathlib.Path(os.path.join(directory, "ca.crt")).read_bytes())
        return cls(found.public_bytes(serialization.Encoding.DER), **admission)

    def verify(self, certificate: bytes, message: bytes, signature: bytes) -> None:
        """Checks that the owner of a certificate signed a `digest`.

        Raises:
          SecureSumError: If not, or the certificate is not valid or admitted.
        """
        try:
            self._key(certificate).verify(signature, message, _ALGORITHM)
        except InvalidSignature as error:
            raise SecureSumError(f"a signature of {_name(certificate)} is not valid for what it is to sign.") from error

    def _key(self, certificate):
        """The public key of a certificate, checked once but for its time."""
        mark, now = fingerprint(certificate), datetime.datetime.now(datetime.timezone.utc)
        if mark not in self._keys:
            self._keys[mark] = self._checked(certificate)
        key, start, end = self._keys[mark]
        if not start <= now <= end:
            raise SecureSumError(f"the certificate of {_name(certificate)} is expired, or not valid yet.")
        return key

    def _checked(self, certificate):
        try:
            found = x509.load_der_x509_certificate(certificate)
            found.verify_directly_issued_by(self._authority)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise SecureSumError("a certificate is not one of the federation's authority.") from error
        key = found.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise SecureSumError("a certificate's key is not of ECDSA P-256.")
        if self._admitted is not None and fingerprint(certificate) not in self._admitted:
            raise SecureSumError(f"the certificate of {_name(certificate)} is not admitted to this federation.")
        if self._participants is not None:
            is_one = certificates.role_of(found) in (self._role, "node")
            if not is_one or certificates.name_of(found) not in self._participants:
                raise SecureSumError(f"the certificate of {_name(certificate)} is not of a {self._role} of the plan.")
        return key, found.not_valid_before_utc, found.not_valid_after_utc


def _name(certificate):
    return f"{fingerprint(certificate).hex()[:16]}"
