"""A federation whose messages a real SuperLink and SuperNodes carry, started by the page's commands."""

import os
import re
import signal
import subprocess
import textwrap
import time

import pandas as pd
import portpicker
import pytest

from tests.federation import parties
from tests.federation import test_programs as programs
from tests.processes import ROOT
from tff_tx.core import certificates

FLOWER = ROOT / ".venv-flower"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FLOWER.exists(), reason="There is no .venv-flower: make setup-flower."),
]
SECTION = programs.PAGE.split("## Over Flower")[1].split("\n## ")[0]
KIT, CONNECTION, LINK, KEY, NODE, RELAY = (
    textwrap.dedent(block) for block in re.findall(r"```bash\n(.*?)\n\s*```", SECTION, re.DOTALL)
)
NODES = ("north", "south", "keyholder")
OWN = ["--silos=north,south", "--rounds=1", "--rounds_per_evaluation=1", *programs.BFV, "--clients_per_round=5"]
FLAGS = [*programs.SHORT, *OWN, "--federation_silence_seconds=200", "--federation_secure_seconds=200"]
place = programs.place


class Flower:
    """A SuperLink, the relay, and SuperNodes that tests add."""

    def __init__(self, place):
        self._place, self._ports = place, {"9092": portpicker.pick_unused_port()}
        self.processes: dict[str, subprocess.Popen] = {}
        (place / ".venv-flower").symlink_to(FLOWER)
        (place / "deploy").symlink_to(ROOT / "deploy")
        setting = LINK.split("\n")[0]
        self._environment = {**programs.environment(), "PYTHONUNBUFFERED": "1"}
        self._before = f"{setting}\n"

    def begin(self):
        """Starts the SuperLink and the relay."""
        self.run(KIT)
        self.run(CONNECTION)
        self.start("superlink", LINK)
        path = self._place / "superlink_flower.log"
        parties.wait_until(lambda: "Uvicorn running" in path.read_text(), 60)
        out = self.run(f"{RELAY}")
        assert "Successfully started run" in out, out

    def _filled(self, command):
        for port, own in self._ports.items():
            command = command.replace(port, str(own))
        return self._before + command

    def run(self, command):
        """Runs a command to its end; gives what it says."""
        options = {"cwd": self._place, "env": self._environment, "capture_output": True, "text": True}
        found = subprocess.run(["bash", "-c", self._filled(command)], timeout=100, check=False, **options)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    def start(self, name, command):
        lines = self._filled(command).split("\n")
        lines[-1] = f"exec {lines[-1]}"
        with open(self._place / f"{name}_flower.log", "w") as log:
            options = {"cwd": self._place, "env": self._environment, "stdout": log, "stderr": log}
            self.processes[name] = subprocess.Popen(["bash", "-c", "\n".join(lines)], start_new_session=True, **options)

    def add(self, name):
        """Registers a SuperNode, and starts it."""
        self.run(KEY.replace("north", name))
        self.start_node(name)

    def start_node(self, name):
        self._ports["9101"] = portpicker.pick_unused_port()
        self.start(name, NODE.replace("north", name))

    def has_joined(self, name):
        """Whether a SuperNode is admitted, when that is known."""
        path = self._place / f"{name}_flower.log"
        parties.wait_until(lambda: re.search("SuperNode ID|Exit Code", path.read_text()), 60)
        return "SuperNode ID" in path.read_text()

    def kill(self, name):
        """kill -9 of a process and of those that it started."""
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait()

    def close(self):
        if "superlink" in self.processes:
            self.processes["superlink"].terminate()  # it ends the relay
            self.processes["superlink"].wait(60)
        for name in {*self.processes} - {"superlink"}:
            self.kill(name)


@pytest.fixture(scope="module")
def flower(place):
    """Flower, to which nobody has come yet."""
    for command in programs.COMMANDS[:2]:
        subprocess.run(["bash", "-c", command], cwd=place, check=True, env=programs.environment())
    found = Flower(place)
    try:
        found.begin()
        yield found
    finally:
        found.close()


def start(place, name, number, *flags, **changes):
    """Starts a party of the page, by its command's number."""
    command = programs.COMMANDS[number]
    for words, own in changes.items():
        command = command.replace(words, own)
    words = " ".join(f"'{flag}'" for flag in flags)
    return programs.Party(place, name, f"{command} --transport=flower {words}", forked=True)


def test_flower_carries_ciphertexts_to_the_bits_of_arithmetic_though_a_supernode_is_killed(place, flower):
    """kill -9 of it before its participant encrypts; it starts again as soon as the SuperLink lets it."""
    pytest.importorskip("tenseal")
    certificates.make_node_certificate(str(place / "certs"), "keyholder", role="keyholder")
    coordinator = start(place, "coordinator", 2, *FLAGS, "--cache_dir=cache")
    began = [coordinator]
    try:
        plan = coordinator.wait_for("^Plan (.*)$")
        assert plan == programs.secure_plan(OWN)  # that of a federation without Flower
        for name in NODES:
            where = {"north": name, "$PLAN": plan, "--coordinator=localhost:8443": ""}
            number, more = (7, ["--least_participants=2"]) if name == "keyholder" else (3, [])
            began.append(start(place, name, number, *more, **where))
            flower.add(name)
        log = place / "state" / "north" / "audit.jsonl"
        parties.wait_until(lambda: programs.count(log, "form"), 500)
        flower.kill("north")
        flower.start_node("north")
        while not flower.has_joined("north"):
            flower.kill("north")
            time.sleep(15)  # as service managers do; a start takes seconds of a processor
            flower.start_node("north")
        assert coordinator.process.wait(600) == 0, coordinator.path.read_text()
    finally:
        for party in began:
            party.kill()
    rows = pd.read_csv(place / "all.csv")
    rows[~rows["patient"].str.startswith("west/")].to_csv(place / "two.csv", index=False)
    own = [flag.replace("bfv", "arithmetic") for flag in OWN if "silos" not in flag]
    programs.local(place, "runs/arithmetic", *own, "--data=two.csv")
    programs.check_equal_to_the_bit(place / "runs" / "federation", place / "runs" / "arithmetic")


def test_a_supernode_whose_key_is_not_registered_is_turned_away(flower):
    flower.run("ssh-keygen -q -t ecdsa -b 384 -N '' -f flower/east")
    flower.start_node("east")
    assert not flower.has_joined("east")
