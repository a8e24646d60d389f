"""A federation whose messages a real SuperLink and SuperNodes carry, started by the page's commands."""

import json
import os
import re
import signal
import subprocess
import textwrap
import time

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
SILOS = ("north", "south")
SHORT = [*programs.SHORT, "--rounds=2", "--rounds_per_evaluation=2", "--federation_silence_seconds=200"]
place = programs.place


class Flower:
    """A SuperLink, a SuperNode for each participant, and the relay."""

    def __init__(self, place):
        self._place, self._ports = place, {"9092": portpicker.pick_unused_port()}
        self.processes: dict[str, subprocess.Popen] = {}
        (place / ".venv-flower").symlink_to(FLOWER)
        (place / "deploy").symlink_to(ROOT / "deploy")
        setting = LINK.split("\n")[0]
        self._environment = {**programs.environment(), "PYTHONUNBUFFERED": "1"}
        self._before = f"{setting}\n"

    def begin(self):
        """Starts all, and the relay."""
        self.run(KIT)
        self.run(CONNECTION)
        self.start("superlink", LINK)
        path = self._place / "superlink_flower.log"
        parties.wait_until(lambda: "Uvicorn running" in path.read_text(), 60)
        for name in SILOS:
            self.add(name)
        out = self.run(f"{RELAY} --run-config=seconds=30")
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


def coordinate(place, name, *flags, silos=SILOS):
    """The page's coordinator, of two participants."""
    words = " ".join(f"'{flag}'" for flag in [*SHORT, *flags])
    command = f"{programs.COMMANDS[2]} {words} --cache_dir=cache".replace("north,south,west", ",".join(silos))
    coordinator = programs.Party(place, name, command.replace("runs/federation", f"runs/{name}"), forked=True)
    return coordinator, coordinator.wait_for("^Plan (.*)$")


def participate(place, plan, where, names=SILOS):
    """The page's participants, or its key holder, who come to `where`."""
    number = {"keyholder": 7}
    commands = {name: programs.COMMANDS[number.get(name, 3)].replace("north", name) for name in names}
    told = {
        name: c.replace("$PLAN", plan).replace("--coordinator=localhost:8443", where) for name, c in commands.items()
    }
    return [programs.Party(place, name, command, forked=True) for name, command in told.items()]


def end(coordinator):
    assert coordinator.process.wait(600) == 0, coordinator.path.read_text()


@pytest.fixture(scope="module")
def expected(place):
    """A run over gRPC, and its plan."""
    for command in programs.COMMANDS[:2]:
        subprocess.run(["bash", "-c", command], cwd=place, check=True, env=programs.environment())
    port = portpicker.pick_unused_port()
    coordinator, plan = coordinate(place, "grpc", f"--federation_address=localhost:{port}")
    participants = participate(place, plan, f"--coordinator=localhost:{port}")
    try:
        end(coordinator)
    finally:
        for party in (coordinator, *participants):
            party.kill()
    return place / "runs" / "grpc", plan


@pytest.fixture(scope="module")
def flower(place, expected):
    """Flower, and participants who are reached by it."""
    participants, found = participate(place, expected[1], "--transport=flower"), Flower(place)
    try:
        found.begin()
        yield found
    finally:
        found.close()
        for party in participants:
            party.kill()


def test_flower_carries_a_run_to_the_same_bits_though_a_supernode_is_killed(place, expected, flower):
    """kill -9 of it when a round has ended; it starts again as soon as the SuperLink lets it."""
    coordinator, plan = coordinate(place, "flower", "--transport=flower")
    assert plan == expected[1]
    parties.wait_until((place / "runs" / "flower" / "checkpoints" / "round_1").exists, 500)
    flower.kill("north")
    flower.start_node("north")
    while not flower.has_joined("north"):
        flower.kill("north")
        time.sleep(5)  # as service managers do; a start takes seconds of a processor
        flower.start_node("north")
    end(coordinator)
    programs.check_equal_to_the_bit(place / "runs" / "flower", expected[0])


def test_a_supernode_whose_key_is_not_registered_is_turned_away(place, flower):
    flower.run("ssh-keygen -q -t ecdsa -b 384 -N '' -f flower/east")
    flower.start_node("east")
    assert not flower.has_joined("east")


def test_flower_carries_ciphertexts_and_the_key_holders_sum_to_the_bits_of_arithmetic(place, flower):
    """A third participant and the key holder come later, each with a SuperNode of its own."""
    pytest.importorskip("tenseal")
    certificates.make_node_certificate(str(place / "certs"), "keyholder", role="keyholder")
    once = ["--rounds=1", "--rounds_per_evaluation=1"]
    flags = ["--transport=flower", *once, *programs.BFV, "--federation_secure_seconds=200"]
    coordinator, plan = coordinate(place, "encrypted", *flags, silos=programs.SILOS)
    for silo in SILOS:
        (place / "state" / silo / "approved.json").write_text(json.dumps([plan]))
    later = ("west", "keyholder")
    found = participate(place, plan, "--transport=flower", later)
    try:
        for name in later:
            flower.add(name)
        end(coordinator)
    finally:
        for party in found:
            party.kill()
    programs.local(place, "runs/arithmetic", *once, "--secure_aggregation=arithmetic", programs.BFV[1])
    programs.check_equal_to_the_bit(place / "runs" / "encrypted", place / "runs" / "arithmetic")
