"""Participants of secure sums that have numbers in place of a model; as a program, one of them, in a second.

    python -m tests.federation.players KITS NAME PORT [hangs]

It prints each message that it gets; one that hangs does so in the first phase of round 1, the second of round 2, ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time

import numpy as np

from tests.federation import parties
from tff_tx.federation import contents
from tff_tx.federation.layout import Layout
from tff_tx.federation.link import Link
from tff_tx.federation.secure_rounds import KEYS, PHASES, SecureParty, SecureRounds
from tff_tx.federation.secure_sums import Threat
from tff_tx.federation.wire import load_kit

NAMES = ("east", "north", "south", "west")
THREAT = Threat(0.0, 0.25, active=True)  # of 4 participants 3 are needed
LAYOUT = Layout((2**20, 2**20, 2**62), ((3, 2), (40,), ()), tuple(map(np.dtype, ("int32", "int32", "int64"))))
RUN = parties.RUN


def leaves(name):
    """What a participant adds to a sum."""
    drawn = np.random.default_rng(NAMES.index(name))
    return [drawn.integers(0, min(m, 2**40), s).astype(d) for m, s, d in zip(*dataclasses.astuple(LAYOUT))]


def party(kits, name, least=0, participants=NAMES):
    return SecureParty(*load_kit(os.path.join(kits, name), "participant", participants), THREAT, RUN, len(NAMES), least)


class Player:
    """A participant without a model: `change` sees each answer before it leaves."""

    def __init__(self, kits, name, change=lambda phase, answer: answer, **more):
        self.party, self.name, self.change = party(kits, name, **more), name, change

    def __call__(self, header, payload):
        said, content = contents.split(payload)
        if header.phase == KEYS:
            model = bytes.fromhex(said["model"])
            answer = self.party.begin(header.round, model, LAYOUT, leaves(self.name))
        else:
            answer = self.party.answer(header.phase, content)
        return contents.pack({}, self.change(header.phase, answer))


def total(names):
    """The sum over participants, in plain arithmetic."""
    added = [sum(leaf.astype(np.int64) for leaf in each) for each in zip(*map(leaves, names))]
    return [np.mod(leaf, m) for leaf, m in zip(added, LAYOUT.moduli)]


@contextlib.contextmanager
def federation(kits, players, **more):
    """A hub with participants; `players` by name."""
    with parties.hub(kits, NAMES, **more) as hub, contextlib.ExitStack() as stack:
        hub.links = {
            name: stack.enter_context(parties.serving(kits, name, hub.port, player)) for name, player in players.items()
        }
        hub.wait(list(players))
        yield hub


def run(hub, number=1, models=None, seconds=100.0):
    """A round: the sum, why participants are not in it, and the phases that were."""
    model, phases = b"m" * 32, []
    told = {name: {"model": ((models or {}).get(name, model)).hex(), "attempt": os.urandom(4).hex()} for name in NAMES}
    requests = {name: contents.pack(said) for name, said in told.items()}
    rounds = SecureRounds(hub, LAYOUT, THREAT, RUN, seconds)
    return *rounds.sum(number, model, requests, phases.append), phases


def check_sum(found, names):
    for ours, theirs in zip(found, total(names)):
        np.testing.assert_array_equal(ours, theirs)


def main(kits, name, port, hangs=""):
    """Serves until it is killed."""
    player = Player(kits, name)

    def handle(header, payload):
        print(header.round, header.phase, flush=True)
        if hangs and header.round <= len(PHASES) and header.phase == PHASES[header.round - 1]:
            time.sleep(60)
        return player(header, payload)

    def joined(welcome):
        print("joined", flush=True)

    Link(f"localhost:{port}", os.path.join(kits, name), lambda welcome: welcome["plan"], joined, handle).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
