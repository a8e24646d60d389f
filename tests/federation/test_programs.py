"""The commands of docs/federation.md, and what becomes of a run whose parties are killed."""

import csv
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import subprocess
import sys
import time

import pandas as pd
import portpicker
import pytest

from tests.complaints import config_of
from tests.processes import ROOT, Forked, run
from tff_tx.config import resolve
from tff_tx.core import certificates
from tff_tx.federation import audit_log
from tff_tx.federation.secure_rounds import PHASES
from tff_tx.run.assemble import plans

PAGE = (ROOT / "docs" / "federation.md").read_text()
COMMANDS = [re.sub(r"\s+", " ", block).strip() for block in re.findall(r"```bash\n(.*?)\n\s*```", PAGE, re.DOTALL)]
TINY = '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
SHORT = [TINY, "--max_length=8", "--rounds=4", "--clients_per_round=5", "--local_steps=1", "--rounds_per_evaluation=4"]
SHORT += ["--rounds_per_checkpoint=1"]
SECURE = ["--secure_aggregation=masks", "--clients_per_round=6"]
BFV = ["--secure_aggregation=bfv", "--clients_per_round=6"]
SILOS = {"north": 3, "south": 2, "west": 1}
KILLS, _DELAY = int(os.environ.get("TFF_TX_KILLS", "4")), 0.3
"""Of a test: `TFF_TX_KILLS=30`, with pytest's `--timeout=3600`, for more."""


def test_there_are_five_to_a_federation():
    programs = [re.findall(r"programs\.(\w+)", command) for command in COMMANDS[:5]]
    assert programs == [["certs"], ["certs"], ["coordinate"], ["participate"], ["participate"]]


@pytest.mark.slow
def test_the_pages_commands_for_certificates_run(tmp_path):
    """As they stand, in bash: who is revoked is listed so, and its new certificate before that is another."""
    (tmp_path / "programs").symlink_to(ROOT / "programs")
    blocks = re.findall(r"```bash\n(.*?)\n\s*```", PAGE, re.DOTALL)
    for block in (*blocks[:2], *blocks[5:7], *blocks[5].strip().splitlines()[:1]):
        run = subprocess.run(
            ["bash", "-ec", block], cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True
        )
    assert re.search("^north: participant, expires in 364 days, revoked", run.stdout, re.MULTILINE)
    assert re.search("^south: participant, expires in 364 days, [0-9a-f]{64}$", run.stdout, re.MULTILINE)
    assert re.search("^keyholder: keyholder, expires in 364 days, [0-9a-f]{64}$", run.stdout, re.MULTILINE)


def test_every_threat_names_a_test():
    page = (ROOT / "docs" / "security.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| T\d+ ", line)]
    written = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    numbers = [int(number) for number in re.findall(r"^\| T(\d+)", "\n".join(rows), re.MULTILINE)]
    assert numbers == [*range(1, len(rows) + 1)]
    for row in rows:
        names = re.findall(r"`(test_\w+)`", row)
        assert names, row
        assert all(f"def {name}(" in written for name in names), row


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tables for three participants, of all together, and held-out ones."""
    place, drawn = tmp_path_factory.mktemp("federation"), random.Random(0)
    tables = {"held_out": {"t0": 8}, **{silo: {f"p{c}": 8 for c in range(n)} for silo, n in SILOS.items()}}
    tables["all"] = {f"{silo}/p{c}": 8 for silo, n in SILOS.items() for c in range(n)}
    rows = {}
    for name, clients in tables.items():
        with open(place / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["patient", "text", "label"])
            for client, size in clients.items():
                own = rows.get(client) or [
                    ("red dog", "a") if drawn.random() < 0.5 else ("sea", "b") for _ in range(size)
                ]
                rows[f"{name}/{client}"] = own
                writer.writerows([client, *row] for row in own)
    (place / "programs").symlink_to(ROOT / "programs")
    return place


class Party:
    """A program, whose output goes to a file: a command in bash, or `forked` by the tests' own server."""

    def __init__(self, place, name, command, forked=False):
        self.path, self.command = place / f"{name}.log", command
        if forked:
            self.path.write_text("")
            _, _, module, *flags = shlex.split(command)  # after `python -m`
            self.process = Forked(module, flags, place, self.path)
            return
        with open(self.path, "w") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=place, env=environment(), stdout=log, stderr=log
            )

    def wait_for(self, pattern, seconds=200):
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.path.read_text(), re.MULTILINE)):
            assert time.monotonic() < deadline, self.path.read_text()[-3000:]
            assert self.process.poll() is None, self.path.read_text()[-3000:]
            time.sleep(0.05)
        return found[1] if found.groups() else found[0]

    def kill(self):
        self.process.kill()
        self.process.wait()


class Federation:
    """The parties of the page, at a port of their own: one of each kind is started, once, all others are forked."""

    def __init__(self, place):
        self.place, self.parties = place, {}
        self.port = portpicker.pick_unused_port()

    def coordinate(self, run_dir, *more, limit=""):
        """Starts a coordinator; `limit`, such as a `ulimit`, is run by its shell before."""
        flags = " ".join(f"'{flag}'" for flag in [*SHORT, *more, f"--federation_address=localhost:{self.port}"])
        command = f"{COMMANDS[2]} {flags} --cache_dir=cache".replace("runs/federation", run_dir)
        if limit:
            return self._start("limited", f"bash -c {shlex.quote(f'{limit} exec {command}')}")
        return self._start("coordinator", command)

    def participate(self, name, plan):
        command = COMMANDS[3].replace("north", name).replace("$PLAN", plan).replace("8443", str(self.port))
        return self._start(name, command)

    def hold_key(self, plan):
        command = COMMANDS[7].replace("$PLAN", plan).replace("8443", str(self.port))
        return self._start("keyholder", command)

    def start_again(self, name):
        return self._start(name, self.parties[name].command)

    def _start(self, name, command):
        is_forked = name in self.parties or name in ("south", "west")  # which are as north is
        self.parties[name] = Party(self.place, name, command, forked=is_forked)
        return self.parties[name]

    def close(self):
        for party in self.parties.values():
            party.kill()


@pytest.fixture(scope="module")
def whole(place):
    """A run by the page's commands, with its federation, which stays."""
    federation = Federation(place)
    for command in COMMANDS[:2]:
        subprocess.run(["bash", "-c", command], cwd=place, check=True, env=environment())
    coordinator = federation.coordinate("runs/whole")
    plan = coordinator.wait_for("^Plan (.*)$")
    for name in SILOS:
        federation.participate(name, plan)
    assert coordinator.process.wait(300) == 0, coordinator.path.read_text()
    yield federation, plan
    federation.close()


def environment():
    """In which `python` is this one and finds the programs."""
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}


def local(place, run_dir, *more):
    """The run of all tables by programs.train."""
    words = ["--task=sequence_classification", "--architecture=bert", "--tokenizer=bytes", "--client_column=patient"]
    files = ["--dataset=file", "--data=all.csv", "--test_data=held_out.csv", "--validation_fraction=0"]
    run("train", *words, *files, *SHORT, *more, "--cache_dir=cache", f"--run_dir={run_dir}", cwd=place)


def secure_plan(secure):
    """The digest of the plan of the page's coordinator with secure sums."""
    flags = [*shlex.split(COMMANDS[2])[3:], *SHORT, *secure]
    given = {"engine.name": "federation", "data.dataset": "file", "data.files": ("{silo}",)}
    return plans.digest(plans.plan_of(resolve(config_of(*flags).replace(given))))


def approve(place, plan):
    """As if participants' operators had agreed to this plan before."""
    for silo in SILOS:
        (place / "state" / silo / "approved.json").write_text(json.dumps([plan]))


@pytest.fixture(scope="module")
def arithmetic(place):
    """A run of all tables with sums of whole numbers in the open."""
    local(place, "runs/arithmetic", "--secure_aggregation=arithmetic", SECURE[1])
    return place / "runs" / "arithmetic"


def check_equal_to_the_bit(run_dir, expected):
    pd.testing.assert_frame_equal(stable(run_dir), stable(expected))
    ours, theirs = ((found / "model" / "model.safetensors").read_bytes() for found in (run_dir, expected))
    assert ours == theirs


def stable(run_dir):
    table = pd.read_csv(run_dir / "metrics.csv")
    return table[[c for c in table if not c.startswith("time/")]]


@pytest.mark.slow
def test_five_commands_lead_to_a_federation_with_the_numbers_of_one_machine(place, whole):
    assert (place / "runs" / "whole" / "report.md").exists()
    out, _ = run("participate", "--state_dir=state/north", "--check_log", cwd=place)
    assert "what=train round=4" in out
    assert "none changed, added or removed" in out
    local(place, "runs/local")
    ours, theirs = (stable(place / "runs" / name) for name in ("whole", "local"))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_full_disk_at_the_coordinators_checkpoint_costs_no_round(place, whole):
    federation, _ = whole
    runs = place / "runs"
    graph = runs / "whole" / "checkpoints" / "round_4" / "saved_model.pb"
    coordinator = federation.coordinate("runs/full", limit=f"ulimit -f {graph.stat().st_size // 2048};")
    assert coordinator.process.wait(300) == 2
    told = coordinator.path.read_text()
    assert re.search(r"Error: --run_dir=runs/full cannot be written \(.*; File too large\): make room", told), told
    assert "Traceback" not in told
    assert (runs / "full" / "config.json").exists()
    coordinator = federation.coordinate("runs/full")
    assert coordinator.process.wait(300) == 0, coordinator.path.read_text()
    check_equal_to_the_bit(runs / "full", runs / "whole")


def kill_again_and_again(federation, run_dir, flags, expected, moments, seed):
    """Runs to the `expected` one, whose parties are killed: each time after an entry of a kind in a party's log.

    Args:
      federation: The parties; participants serve.
      run_dir: Of the coordinator; a run that has ended is compared, and the next begins.
      flags: Of the coordinator.
      expected: Directory of an undisturbed run.
      moments: Whose log, the kind of entry, and who is killed up to `_DELAY` seconds later and started again.
      seed: Of the delays and of the order.
    """
    drawn, place = random.Random(seed), federation.place
    coordinator = federation.coordinate(run_dir, *flags)
    for party, what, victims in drawn.sample([*moments] * -(-KILLS // len(moments)), KILLS):
        log, before = place / "state" / party / "audit.jsonl", None
        while (found := count(log, what)) == (before := found if before is None else before):
            if coordinator.process.poll() == 0:
                check_equal_to_the_bit(place / run_dir, expected)
                shutil.rmtree(place / run_dir)
                coordinator = federation.coordinate(run_dir, *flags)
            assert coordinator.process.poll() is None, coordinator.path.read_text()
            time.sleep(0.005)
        time.sleep(drawn.uniform(0.0, _DELAY))
        for victim in victims:
            federation.parties[victim].kill()
        for victim in victims:
            federation.start_again(victim)
        coordinator = federation.parties["coordinator"]
    assert coordinator.process.wait(300) == 0, coordinator.path.read_text()
    check_equal_to_the_bit(place / run_dir, expected)


def count(log, what):
    """Entries of a kind."""
    return log.read_text().count(f'"what": "{what}"') if log.exists() else 0


@pytest.mark.slow
def test_killed_parties_of_secure_sums_come_back_to_the_model_of_arithmetic(place, whole, arithmetic):
    """kill -9 of the coordinator in each phase, and with it of a participant, which may owe an answer."""
    federation, _ = whole
    plan = secure_plan(SECURE)
    approve(place, plan)
    moments = [("north", what, ["coordinator", "south"][: 1 + i % 2]) for i, what in enumerate(("form", *PHASES))]
    kill_again_and_again(federation, "runs/killed", SECURE, arithmetic, moments, 3)
    coordinator = federation.parties["coordinator"]
    assert f"Plan {plan}" in coordinator.path.read_text()
    assert "each of 3 participants masks with 2 others" in coordinator.path.read_text()
    what = [entry["what"] for entry in audit_log.read(str(place / "state" / "north" / "audit.jsonl"))]
    assert what[-5:] == list(PHASES)
    assert "train" not in what[what.index("keys") :]
    told = (place / "runs" / "killed" / "config.json").read_text()
    assert '"patient"' in told  # and no more of the data than
    assert re.search(r"north:[0-9a-f]{64} south:[0-9a-f]{64} west:[0-9a-f]{64}", told)


@pytest.mark.slow
def test_a_killed_key_holder_goes_on_to_the_model_of_arithmetic(place, whole, arithmetic):
    """kill -9 of it in each phase, and of the coordinator, which resumes after sums that it has lost."""
    pytest.importorskip("tenseal")
    federation, _ = whole
    certificates.make_node_certificate(str(place / "certs"), "keyholder", role="keyholder")
    plan = secure_plan(BFV)
    approve(place, plan)
    federation.hold_key(plan)
    moments = [("keyholder", "public_key", ["keyholder"]), ("north", "form", ["coordinator", "keyholder"])]
    for who in ("coordinator", "keyholder"):
        moments += [("north", "encrypt", [who]), ("keyholder", "decrypt", [who])]
    kill_again_and_again(federation, "runs/bfv", BFV, arithmetic, moments, 4)
    assert len(os.listdir(place / "state" / "keyholder" / plan / "answers")) == 4
    report = (place / "runs" / "bfv" / "report.md").read_text()
    assert "of at least 3 participants, one a round: neither of them alone reads what one participant sent." in report
    assert "In a simulation" not in report
    north = [entry["what"] for entry in audit_log.read(str(place / "state" / "north" / "audit.jsonl"))]
    assert north[-1] == "encrypt"
    assert "train" not in north[north.index("encrypt") :]


@pytest.mark.slow
def test_a_participant_that_does_not_agree_says_so_and_ends(place, whole):
    federation, _ = whole
    policy = place / "policy.toml"
    policy.write_text("most_rounds = 3")
    certificates.make_node_certificate(str(place / "certs"), "east", role="participant")
    flags = ["--silos=east", "--task=causal_lm", "--architecture=gpt2", "--tokenizer=bytes", TINY, "--rounds=4"]
    port = portpicker.pick_unused_port()
    more = [f"--federation_address=localhost:{port}", "--federation_join_seconds=20", "--run_dir=runs/east"]
    command = " ".join(f"'{word}'" for word in [*flags, *more])
    coordinator = Party(place, "east_coordinator", f"python -m programs.coordinate {command}", forked=True)
    coordinator.wait_for("^Plan")
    own = [f"--coordinator=localhost:{port}", "--certificate=certs/east", "--data=north.csv", "--state_dir=state/east"]
    _, err = run("participate", *own, "--policy=policy.toml", cwd=place, code=2)
    assert "Error: this participant's policy has most_rounds = 3, and the plan has 4 rounds." in err
    out, err = run("participate", *own, cwd=place, code=2)
    assert "task: causal_lm, of 4 rounds of fed_avg" in out
    assert "has not approved of the plan" in err
    assert coordinator.process.wait(60) == 2
    assert "east did not join within 20 s (east: the operator of east has not approved" in coordinator.path.read_text()
