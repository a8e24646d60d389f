"""Secure sums beside Flower's SecAgg+: seconds of clients and server, bytes that a client sends, and the error.

The same vectors, clients, dropouts, neighbours and thresholds, one after the other in one run. Flower's row has dashes
without --peers_python, and for cases of more clients than --most_peers.
"""

from __future__ import annotations

import itertools

from benchmarks import processes, report
from benchmarks.secure_case import Case
from tff_tx.federation.secure_sums import Threat, topology

BITS = 20
"""Of a number of the sum."""


def threat_of(dropouts: float) -> Threat:
    """A tenth of the clients collude with a server that deviates, and as many may drop out as do, or a tenth."""
    return Threat(0.1, max(0.1, dropouts))


def _numbers(kind):
    return lambda text: [kind(item) for item in text.split(",")]


def main() -> None:
    """Runs all cases and prints the table."""
    parser = report.parser(__doc__, "benchmarks/results/secure_sums.json")
    parser.add_argument("--clients", type=_numbers(int), default=[10, 50, 100], help="numbers of clients")
    parser.add_argument("--lengths", type=_numbers(int), default=[155_000, 561_024], help="numbers a client sums")
    parser.add_argument("--dropouts", type=_numbers(float), default=[0.0, 0.1, 0.3], help="shares that drop out")
    parser.add_argument("--peers_python", help="interpreter with flwr, .venv-peers/bin/python")
    parser.add_argument("--most_peers", type=int, default=100, help="most clients of Flower's cases")
    parser.add_argument("--bfv", action="store_true", help="ours by homomorphic encryption, in place of masks")
    options = parser.parse_args()
    ours_by = "benchmarks.contenders." + ("encrypted_sums" if options.bfv else "secure_sums")
    results, rows = [], []
    for clients, length, dropouts in itertools.product(options.clients, options.lengths, options.dropouts):
        sizes = topology(clients, threat_of(dropouts))
        case = Case(clients, length, dropouts, sizes.degree, sizes.threshold)
        ours = processes.run(ours_by, case.arguments())
        theirs = None
        if options.peers_python and clients <= options.most_peers:
            module = "benchmarks.peers.flower_secagg"
            theirs = processes.run(module, case.arguments(), python=options.peers_python)
        results.append({"case": vars(case), "tff_tx": ours, "flower": theirs})
        rows.append(_row(case, ours, theirs))
        print(report.table(_HEADER, rows[-1:]).splitlines()[-1], flush=True)
    print(report.table(_HEADER, rows))
    report.write("secure_sums", {"machine": report.machine(), "results": results}, options.output)


_HEADER = (
    *("clients", "values", "dropouts", "k, t", "client s", "Flower", "server s", "Flower", "times faster"),
    *("kB a client", "of float32", "Flower kB", "of Flower's", "error", "Flower's"),
)


def _row(case, ours, theirs):
    float32 = 4 * case.length
    flower = dict.fromkeys(ours, None) if theirs is None else theirs

    def shown(value, text):
        return "-" if value is None else text.format(value)

    def ratio(a, b):
        return None if a is None or b is None else a / b

    return (
        *(case.clients, f"{case.length:,}", f"{case.dropouts:.0%}", f"{case.neighbours}, {case.threshold}"),
        *(shown(each["client_seconds"], "{:.3f}") for each in (ours, flower)),
        *(shown(each["server_seconds"], "{:.2f}") for each in (ours, flower)),
        shown(ratio(flower["server_seconds"], ours["server_seconds"]), "{:.1f}"),
        shown(ours["client_bytes"] / 1e3, "{:,.0f}"),
        shown(ours["client_bytes"] / float32, "{:.2f}"),
        shown(ratio(flower["client_bytes"], 1e3), "{:,.0f}"),
        shown(ratio(ours["client_bytes"], flower["client_bytes"]), "{:.2f}"),
        *(shown(each["error"], "{:.0e}") for each in (ours, flower)),
    )


if __name__ == "__main__":
    main()
