"""The least version of TLS."""

from __future__ import annotations

import os

_VARIABLE, _CIPHERS = "GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384"


def require_tls_1_3() -> None:
    """Has gRPC reject TLS 1.2; to be called before anything imports gRPC, which reads its settings then.

    gRPC has no option for the least version. This lets TLS 1.2 have one cipher, which needs a certificate of RSA; those
    of `core.certificates` have other keys. The ciphers of TLS 1.3 are not concerned.
    """
    os.environ[_VARIABLE] = _CIPHERS
