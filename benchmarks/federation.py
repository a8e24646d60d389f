"""The transport of a federation on this machine: seconds of a round without training, MB/s, and memory of many rounds.

Participants are threads of one process that speak the protocol over mutual TLS, and give back what they get: a round is
one message and one answer of each, signed and checked at both ends. Beside it, the same bytes by gRPC alone, and secure
sums.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import tempfile
import time

import grpc
import numpy as np
import psutil

from benchmarks import report
from tests.federation import parties
from tff_tx.federation import contents, wire
from tff_tx.federation.envelopes import CHUNK_BYTES
from tff_tx.federation.hub import Limits
from tff_tx.federation.layout import Layout
from tff_tx.federation.secure_rounds import KEYS, SecureParty, SecureRounds
from tff_tx.federation.secure_sums import Threat

_HEADER = (
    "participants",
    "MB each way",
    "rounds",
    "s a round",
    "MB/s in all",
    "memory after a tenth",
    "after half",
    "at the end, MB",
)


@contextlib.contextmanager
def federation(names, kits, handle_of):
    """A hub whose participants have joined; `handle_of` is from a name to what answers."""
    with parties.hub(kits, names, limits=Limits(120.0, 120.0, 60.0)) as hub, contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(parties.serving(kits, name, hub.port, handle_of(name)))
        hub.wait()
        yield hub


def measure(participants: int, size: int, rounds: int, ask) -> dict:
    """Times of rounds, s, and resident memory after each tenth of them, MB.

    Args:
      participants: Number of participants.
      size: Bytes of a message.
      rounds: Number of rounds, after one that is not counted.
      ask: From the kits' directory and names to a context of a function that runs a round by its number.
    """
    names, seconds, memory = [f"p{i}" for i in range(participants)], [], []
    with tempfile.TemporaryDirectory() as kits:
        parties.make_kits(kits, names)
        with ask(kits, names, size) as run:
            run(0)
            for number in range(1, rounds + 1):
                started = time.perf_counter()
                run(number)
                seconds.append(time.perf_counter() - started)
                if number % max(1, rounds // 10) == 0:
                    memory.append(psutil.Process().memory_info().rss / 1e6)
    return {"participants": participants, "bytes": size, "seconds": seconds, "memory": memory}


@contextlib.contextmanager
def in_the_clear(kits, names, size):
    """Rounds of one message each way."""
    blob = os.urandom(size)
    with federation(names, kits, lambda name: parties.echo) as hub:

        def run(number):
            answers, failures = hub.ask(number, "echo", dict.fromkeys(names, (str(number).encode(), blob)))
            if failures or len(answers) < len(names):
                raise RuntimeError(str(failures))

        yield run


@contextlib.contextmanager
def plain_grpc(kits, names, size):
    """The same bytes by gRPC alone, over the same TLS: no envelopes, and nothing is checked."""
    blob = os.urandom(size)

    def pieces():
        return (blob[start : start + CHUNK_BYTES] for start in range(0, size, CHUNK_BYTES))

    handlers = {
        "Down": grpc.unary_stream_rpc_method_handler(lambda request, context: pieces()),
        "Up": grpc.stream_unary_rpc_method_handler(lambda chunks, context: str(sum(map(len, chunks))).encode()),
    }
    pool = concurrent.futures.ThreadPoolExecutor(2 * len(names))
    server = grpc.server(pool, [grpc.method_handlers_generic_handler("plain", handlers)], options=wire.OPTIONS)
    port = server.add_secure_port("localhost:0", wire.server_credentials(os.path.join(kits, "coordinator")))
    server.start()

    def exchange(channel):
        received = b"".join(channel.unary_stream("/plain/Down")(b""))
        return len(received), int(channel.stream_unary("/plain/Up")(pieces()))

    with contextlib.ExitStack() as stack:
        stack.callback(server.stop, None)
        channels = [stack.enter_context(wire.channel(f"localhost:{port}", os.path.join(kits, n))) for n in names]

        def run(number):
            if {*pool.map(exchange, channels)} != {(size, size)}:
                raise RuntimeError("not all bytes have come")

        yield run


@contextlib.contextmanager
def secure(kits, names, size):
    """Rounds of secure sums of vectors that pack to the size, at 20 bits a number."""
    layout = Layout((2**20,), ((size * 8 // 20,),), (np.dtype(np.int32),))
    leaves, threat = [np.ones(layout.shapes[0], np.int32)], Threat(0.1, 0.1)

    def handle_of(name):
        kit = wire.load_kit(os.path.join(kits, name), "participant", names)
        party = SecureParty(*kit, threat, parties.RUN, len(names), 0)

        def handle(header, payload):
            if header.phase == KEYS:
                return contents.pack({}, party.begin(header.round, bytes(32), layout, leaves))
            return contents.pack({}, party.answer(header.phase, contents.split(payload)[1]))

        return handle

    with federation(names, kits, handle_of) as hub:
        rounds = SecureRounds(hub, layout, threat, parties.RUN, 120.0)

        def run(number):
            requests = {name: contents.pack({"attempt": number}) for name in names}
            (total,), _ = rounds.sum(number, bytes(32), requests)
            if not (total == len(names)).all():
                raise RuntimeError("another sum than that of plain arithmetic")

        yield run


def main() -> None:
    """Runs all cases and prints the table."""
    parser = report.parser(__doc__, "benchmarks/results/federation.json")
    parser.add_argument("--rounds", type=int, default=200, help="rounds of the case of many participants")
    parser.add_argument("--participants", type=int, default=200, help="participants of that case")
    options = parser.parse_args()
    cases = [
        ("", 3, 2_000_000, 20, in_the_clear),
        ("", 3, 90_000_000, 3, in_the_clear),
        (", plain gRPC", 3, 90_000_000, 3, plain_grpc),
        ("", options.participants, 1000, options.rounds, in_the_clear),
        (", secure sums", 3, 2_000_000, 10, secure),
        (", secure sums", options.participants, 1000, 3, secure),
    ]
    results, rows = [], []
    for kind, participants, size, rounds, ask in cases:
        found = measure(participants, size, rounds, ask)
        results.append({"kind": kind, **found})
        median = float(np.median(found["seconds"]))
        rows.append((f"{participants}{kind}", f"{size / 1e6:g}", rounds, report.spread(found["seconds"], 3)))
        memory = [found["memory"][i] for i in (0, (len(found["memory"]) - 1) // 2, -1)]
        rows[-1] += f"{2 * participants * size / median / 1e6:,.0f}", *(f"{each:,.0f}" for each in memory)
        print(report.table(_HEADER, rows[-1:]).splitlines()[-1], flush=True)
    print(report.table(_HEADER, rows))
    report.write("federation", {"machine": report.machine(), "results": results}, options.output)


if __name__ == "__main__":
    main()
