"""Parties as ends of a real connection compute what the simulation does."""

import concurrent.futures
import json
import os

import portpicker
import pytest

from tests.federation import parties
from tests.processes import run
from tests.vertical import small
from tff_tx.config.vertical import VerticalActionConfig
from tff_tx.core.errors import UserError
from tff_tx.federation import audit_log
from tff_tx.run import vertical_parties


@pytest.mark.slow
def test_parties_over_a_connection_are_the_simulation(tmp_path):
    """Also, the label party has no files of the other, and the log at that has all that left it."""
    kits, address = parties.make_kits(tmp_path / "certs", ["laboratory"]), f"localhost:{portpicker.pick_unused_port()}"
    flags = ["--dataset=breast_cancer", f"--parties={json.dumps(small.TUMOURS)}", "--cut_size=8", "--heads=2"]
    flags += ["--layers=0", "--top=concatenation", "--epochs=2", "--seed=3"]
    dial = ["--party=laboratory", f"--coordinator={address}", f"--certificate={kits / 'laboratory'}"]
    listen = ["--party=clinic", f"--address={address}", f"--certificate={kits / 'coordinator'}"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(run, "vertical", *flags, *more, f"--run_dir={tmp_path / name}", cwd=tmp_path)
            for name, more in (("all", ()), ("laboratory", dial), ("clinic", listen))
        ]
        for future in runs:
            future.result()
    found, simulated = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("clinic", "all"))
    assert found["test"] == pytest.approx(simulated["test"], abs=1e-6)
    assert os.listdir(tmp_path / "clinic" / "parties") == ["clinic"]
    log = list(audit_log.read(str(tmp_path / "laboratory" / "parties" / "laboratory" / audit_log.NAME)))
    steps = [entry["bytes"] for entry in log if entry["what"] == "step"]
    assert len(steps) == 2 * 8
    assert min(steps) > 7 * 4 * 8 * 4  # of the last batch: rows, tokens, their width, bytes of a number


@pytest.mark.parametrize(
    ("own", "error"),
    [
        ({"party": "tax"}, "vertical_run.party=tax: there is no such party; there are clinic, laboratory"),
        ({"party": "clinic"}, "vertical_run.address is missing: clinic has the labels and listens"),
        ({"party": "laboratory"}, "vertical_run.coordinator is missing: laboratory has no labels and dials"),
        ({"party": "clinic", "address": "localhost:1"}, "vertical_run.certificate is missing"),
    ],
)
def test_who_one_is_must_be_said(own, error):
    with pytest.raises(UserError, match=error):
        vertical_parties.run_party(small.config(), small.settings(), VerticalActionConfig(**own))


def test_what_all_must_share_has_no_paths():
    files = {name: {**party, "files": [f"/{name}.csv"]} for name, party in small.TUMOURS.items()}
    plans = [vertical_parties._plan(small.config(), small.settings(**more)) for more in ({}, {"parties": files})]
    assert plans[0] == plans[1]
    assert plans[0] != vertical_parties._plan(small.config(), small.settings(cut_size=16))
