"""Parties as ends of a real connection compute what the simulation does."""

import concurrent.futures
import csv
import functools
import json
import os
import time

import numpy as np
import portpicker
import pytest

from tests.federation import parties
from tests.processes import Forked, run
from tests.vertical import small
from tests.vertical.test_middle import CLINICS, PARTIES
from tff_tx.config.vertical import VerticalActionConfig
from tff_tx.core.errors import UserError
from tff_tx.federation import audit_log
from tff_tx.run import vertical_parties


def commands(tmp_path, others, label="clinic", middle=None):
    """Flags of each party as a process, by name."""
    kits, address = tmp_path / "certs", f"localhost:{portpicker.pick_unused_port()}"
    if not kits.exists():
        parties.make_kits(kits, [*others, *([middle] if middle else ())])
    listens = f"--certificate={kits / 'coordinator'}"
    ways = {label: (f"--party={label}", f"--address={address}", listens)}
    if middle:
        dials, address = f"--coordinator={address}", f"localhost:{portpicker.pick_unused_port()}"
        own = f"--certificate={kits / middle}", listens.replace("--", "--middle_")
        ways[middle] = f"--party={middle}", dials, f"--address={address}", *own
    for name in others:
        ways[name] = f"--party={name}", f"--coordinator={address}", f"--certificate={kits / name}"
    return ways


def run_all(tmp_path, flags, others, label="clinic", middle=None):
    """Runs a simulation and, as processes, the parties: final figures of the simulation and of the party `label`."""
    ways = {"all": (), **commands(tmp_path, others, label, middle)}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(run, "vertical", *flags, *more, f"--run_dir={tmp_path / name}", cwd=tmp_path)
            for name, more in ways.items()
        ]
        for future in runs:
            future.result()
    return [json.loads((tmp_path / name / "results.json").read_text())["test"] for name in ("all", label)]


def forked(tmp_path, name, *flags):
    """Starts a party as a process of its own."""
    log = tmp_path / f"{name}.log"
    log.write_text("")
    return Forked("programs.vertical", [*flags, f"--run_dir={tmp_path / name}"], tmp_path, log)


def told(tmp_path, name):
    """What a forked party has printed since it was started."""
    return (tmp_path / f"{name}.log").read_text()


def sent(tmp_path, name):
    """Bytes of each step that a party's log has."""
    log = audit_log.read(str(tmp_path / name / "parties" / name / audit_log.NAME))
    return [entry["bytes"] for entry in log if entry["what"] == "step"]


def predictions(tmp_path, name):
    """The table of a party's predictions."""
    with open(tmp_path / name / "predictions.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return np.array(rows, float)


SMALL = ["--dataset=breast_cancer", "--cut_size=8", "--heads=2", "--layers=0", "--seed=3"]


@pytest.mark.slow
def test_parties_over_a_connection_are_the_simulation(tmp_path):
    """Also, the label party has no files of the other, and the log at that has all that left it."""
    flags = [*SMALL, f"--parties={json.dumps(small.TUMOURS)}", "--top=concatenation", "--epochs=2"]
    flags += ["--local_updates=2", "--workset=3", "--stale_similarity=0.5"]
    simulated, found = run_all(tmp_path, flags, ["laboratory"])
    assert found == pytest.approx(simulated, abs=1e-6)
    assert os.listdir(tmp_path / "clinic" / "parties") == ["clinic"]
    steps = sent(tmp_path, "laboratory")
    assert len(steps) == 2 * 8
    assert min(steps) > 7 * 4 * 8 * 4  # of the last batch: rows, tokens, their width, bytes of a number
    for action in ("evaluate", "predict"):  # all of them restore what they have saved
        assert run_all(tmp_path, [*flags, f"--action={action}"], ["laboratory"])[1] == found
    np.testing.assert_allclose(*(predictions(tmp_path, name) for name in ("all", "clinic")), atol=1e-5)
    assert len(predictions(tmp_path, "all")) == 569


def test_a_party_that_was_started_anew_saves_no_untrained_weights(tmp_path):
    """The message that it was killed at, which comes again, may be the one to save."""
    federation = small.federation(tmp_path, small.settings(layers=0, top="concatenation"))
    with pytest.raises(UserError, match="laboratory: it was started anew in the middle of a run"):
        federation.save(1)
    assert not list(tmp_path.rglob("round_1"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "of"),
    [("clinic", small.TUMOURS), ("laboratory", small.TUMOURS), ("service", PARTIES), ("clinic", PARTIES)],
    ids=["labels", "columns", "middle", "below the middle"],
)
def test_a_killed_party_comes_back_to_the_undisturbed_run(victim, of, tmp_path):
    """SIGKILL in an epoch behind the first; one without labels ends the others, and all are started again."""
    flags = [*SMALL, f"--parties={json.dumps(of)}", "--top=concatenation", "--epochs=12"]
    label = "authority" if "authority" in of else "clinic"
    others = [name for name in ("clinic", "laboratory") if name != label]
    ways = commands(tmp_path, others, label, "service" if "service" in of else None)

    def begin(name):
        return forked(tmp_path, name, *flags, *ways[name])

    running = {name: begin(name) for name in ways}
    saved, until = tmp_path / victim / "parties" / victim / "checkpoints" / "round_2", time.monotonic() + 400
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.02)
    running[victim].kill()
    running[victim] = begin(victim)
    if victim != label:
        assert running[label].wait(400)
        assert "give the label party's command again" in told(tmp_path, label)
        for process in running.values():
            process.wait(400)  # said goodbye to
        running = {name: begin(name) for name in ways}
    for name, process in running.items():
        assert process.wait(400) == 0, told(tmp_path, name)
    run("vertical", *flags, f"--run_dir={tmp_path / 'all'}", cwd=tmp_path)
    found, whole = (json.loads((tmp_path / name / "results.json").read_text()) for name in (label, "all"))
    assert found["test"] == pytest.approx(whole["test"], abs=1e-6)


@pytest.mark.slow
def test_parties_that_do_not_fit_end_with_a_sentence_each(tmp_path):
    """One has three rows, the other 569: both exit with 2, and the one with labels leaves no directory."""
    (tmp_path / "few.csv").write_text("mean_area,worst_area,mean_symmetry\n1,2,3\n2,3,4\n3,4,5\n")
    few = {**small.TUMOURS, "laboratory": {**small.TUMOURS["laboratory"], "files": [str(tmp_path / "few.csv")]}}
    running = {
        name: forked(tmp_path, name, *SMALL, f"--parties={json.dumps(few)}", *way)
        for name, way in commands(tmp_path, ["laboratory"]).items()
    }
    for name, process in running.items():
        assert process.wait(400) == 2
        sentence = "Error: --parties: laboratory: it has 3 rows, the party with the labels 569: rows must be"
        assert sentence in told(tmp_path, name)
    assert not (tmp_path / "clinic").exists()


@pytest.mark.slow
def test_a_party_in_the_middle_of_a_connection_is_that_of_the_simulation(tmp_path):
    """Four processes; those with columns know the address of the one in the middle alone."""
    flags = [*SMALL, f"--parties={json.dumps(PARTIES)}", "--top=concatenation"]
    for epochs in (1, 2):
        found = run_all(tmp_path, [*flags, f"--epochs={epochs}"], list(CLINICS), "authority", "service")
        assert found[1] == pytest.approx(found[0], abs=1e-6)
    names = [*CLINICS, "service"]
    logs = {n: audit_log.read(str(tmp_path / n / "parties" / n / audit_log.NAME)) for n in names}
    log = [{entry["to"] for entry in logs[name]} for name in names]
    assert log[0] != log[2]
    assert log[1] != log[2]
    assert len(sent(tmp_path, "service")) == 2 * 8
    assert os.listdir(tmp_path / "service" / "parties") == ["service"]


@pytest.mark.slow
@pytest.mark.parametrize("labels", [{"label": "label"}, {**small.TUMOURS["clinic"]}], ids=["alone", "with columns"])
def test_a_secure_sum_between_processes_is_the_simulation_also_when_it_resumes(labels, tmp_path):
    """Three parties, each a process: of the two without labels only the sum reaches the one with labels."""
    others = {"laboratory": {"numeric": ["mean_area", "worst_area"]}, "imaging": {"numeric": ["mean_symmetry"]}}
    flags = [*SMALL, f"--parties={json.dumps({'clinic': labels, **others})}", "--top=sum", "--secure_sum"]
    for epochs in (1, 2):  # pairs agree on other keys when it resumes
        simulated, found = run_all(tmp_path, [*flags, f"--epochs={epochs}"], list(others))
        assert found == pytest.approx(simulated, abs=1e-5)
    plain, _ = run_all(tmp_path / "plain", [*flags[:-1], "--epochs=2"], list(others))
    assert found == pytest.approx(plain, abs=1e-3)  # but for the grid of the sum
    assert [len(sent(tmp_path, name)) for name in others] == [2 * 8] * 2


@pytest.mark.parametrize(
    ("own", "error"),
    [
        ({"party": "tax"}, "vertical_run.party=tax: there is no such party; there are clinic, laboratory"),
        ({"party": "clinic"}, "vertical_run.address is missing: clinic has the labels and listens"),
        ({"party": "laboratory"}, "vertical_run.coordinator is missing: laboratory has no labels and dials"),
        ({"party": "clinic", "address": "localhost:1"}, "vertical_run.certificate is missing"),
        ({"party": "service"}, "vertical_run.address is missing: service is in the middle, where it dials and list"),
    ],
)
def test_who_one_is_must_be_said(own, error):
    settings = small.settings(parties=PARTIES if own["party"] == "service" else small.TUMOURS)
    with pytest.raises(UserError, match=error):
        vertical_parties.run_party(small.config(), settings, VerticalActionConfig(**own))


def test_who_does_not_come_is_named_with_what_would_start_it(tmp_path, monkeypatch):
    kits = parties.make_kits(tmp_path / "certs", ["laboratory"])
    address, kit = f"localhost:{portpicker.pick_unused_port()}", os.path.join(kits, "coordinator")
    own = VerticalActionConfig(party="clinic", address=address, certificate=kit)
    monkeypatch.setattr("tff_tx.federation.hub.Limits", functools.partial(parties.Limits, 0.2))
    expected = "^vertical.parties: laboratory did not join within 0 s: start `python -m programs.vertical` there.$"
    with pytest.raises(UserError, match=expected):
        vertical_parties.run_party(small.config(), small.settings(), own)
    others = small.settings(parties={**small.TUMOURS, "shop": {"numeric": ["worst_radius"]}})
    with pytest.raises(UserError, match="^vertical.parties=laboratory,shop: shop is not among those of"):
        vertical_parties.run_party(small.config(), others, own)


def test_what_all_must_share_has_no_paths():
    files = {name: {**party, "files": [f"/{name}.csv"]} for name, party in small.TUMOURS.items()}
    plans = [vertical_parties._plan(small.config(), small.settings(**more)) for more in ({}, {"parties": files})]
    assert plans[0] == plans[1]
    assert plans[0] != vertical_parties._plan(small.config(), small.settings(cut_size=16))
