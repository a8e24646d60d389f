"""Our secure sum of one case of `benchmarks.secure_sums`: all clients and the server in one process, by turns."""

from __future__ import annotations

import collections
import time

import numpy as np
from cryptography.hazmat.primitives import serialization

from benchmarks.secure_case import Case
from benchmarks.secure_sums import BITS, threat_of
from tff_tx.core import certificates
from tff_tx.federation.secure_sums import Authority, Client, Identity, Server, Terms, Vector, decode, encode


def main() -> None:
    """Plays the session and reports it."""
    case = Case.parse(__doc__)
    issuer = certificates.issue("authority")
    authority = issuer[1].public_bytes(serialization.Encoding.DER)
    names = [Identity.of(certificates.issue(str(i), authority=issuer)) for i in range(case.clients)]
    vectors = (Vector("update", case.length, 2**BITS),)
    agreed = Terms("run", 1, bytes(32), vectors, threat_of(case.dropouts), case.clients)
    clients = {one.fingerprint: Client(agreed, one, Authority(authority)) for one in names}
    numbers = {one.fingerprint: i for i, one in enumerate(names)}
    levels = (2 ** (BITS - 1) - 1) // case.clients
    server, asked = Server(agreed, Authority(authority)), dict.fromkeys(clients)
    spent, sent, watch = collections.Counter(), collections.Counter(), 0.0
    for phase, step in enumerate(("advertise", "share_keys", "masked_input", "sign_survivors", "unmask")):
        arrived = []
        for name, request in asked.items():
            number = numbers[name]
            if phase >= 2 and number in case.dropped():
                continue
            vector = case.vector(number) if phase == 2 else None
            started = time.perf_counter()
            arguments = [] if request is None else [decode(request)]
            if phase == 2:
                arguments.append([np.round(vector * levels).astype(np.int64)])
            content = encode(getattr(clients[name], step)(*arguments))
            spent[number] += time.perf_counter() - started
            sent[number] += len(content)
            arrived.append((name, content))
        started = time.perf_counter()
        for name, content in arrived:
            server.receive(name, decode(content))
        asked = {name: encode(message) for name, message in server.advance().items()}
        watch += time.perf_counter() - started
    started = time.perf_counter()
    total = server.sums[0].astype(np.int64)
    total[total >= 2 ** (BITS - 1)] -= 2**BITS
    mean = total / (levels * len(server.survivors))
    watch += time.perf_counter() - started
    stayed = [i for i in range(case.clients) if i not in case.dropped()]
    case.report(mean, (spent[i] for i in stayed), watch, [sent[i] for i in stayed])


if __name__ == "__main__":
    main()
