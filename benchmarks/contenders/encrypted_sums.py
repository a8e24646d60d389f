"""Our sum of ciphertexts of a case of `benchmarks.secure_sums`; the server is aggregator and key holder."""

from __future__ import annotations

import time

import numpy as np
from cryptography.hazmat.primitives import serialization

from benchmarks.secure_case import Case
from benchmarks.secure_sums import BITS
from tff_tx.core import certificates
from tff_tx.federation.secure_sums import Authority, Identity, Terms, Threat, Vector, encryption, key_holder


def main() -> None:
    """Plays the round and reports it."""
    case = Case.parse(__doc__)
    issuer = certificates.issue("authority")
    authority = Authority(issuer[1].public_bytes(serialization.Encoding.DER))
    stayed = [i for i in range(case.clients) if i not in case.dropped()]
    names = {i: Identity.of(certificates.issue(str(i), authority=issuer)) for i in [-1, *stayed]}
    agreed = Terms("run", 1, bytes(32), (Vector("update", case.length, 2**BITS),), Threat(0.0, 0.0), case.clients)
    levels = (2 ** (BITS - 1) - 1) // case.clients
    holder = key_holder.KeyHolder(names[-1], authority, 2, "run")
    public, spent, sent, watch = holder.public, [], [], 0.0
    aggregator = encryption.Aggregator(agreed, public.checked("run", authority), authority)
    for i in stayed:
        numbers = np.round(case.vector(i) * levels).astype(np.int64)
        started = time.perf_counter()
        voucher, ciphertexts = encryption.encrypt(agreed, names[i], public, authority, [numbers])
        spent.append(time.perf_counter() - started)
        sent.append(
            sum(map(len, ciphertexts)) + sum(len(part) for part in vars(voucher).values() if isinstance(part, bytes))
        )
        started = time.perf_counter()
        aggregator.receive(voucher, ciphertexts)
        watch += time.perf_counter() - started
    started = time.perf_counter()
    found = holder.decrypt(agreed, *aggregator.add([names[i].fingerprint for i in stayed]))
    total = found.sums[0].astype(np.int64)
    total[total >= 2 ** (BITS - 1)] -= 2**BITS
    watch += time.perf_counter() - started
    case.report(total / (levels * len(stayed)), spent, watch, sent)


if __name__ == "__main__":
    main()
