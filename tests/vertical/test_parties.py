"""Parties as ends of a real connection compute what the simulation does."""

import dataclasses
import threading

import portpicker
import pytest

from tests.federation import parties
from tests.vertical import small
from tff_tx.config.vertical import VerticalActionConfig
from tff_tx.core.errors import UserError
from tff_tx.federation import audit_log
from tff_tx.run import vertical, vertical_parties


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return parties.make_kits(tmp_path_factory.mktemp("certs"), ["laboratory"])


def run(kits, directories, settings, others=None):
    """Both parties, the feature party in a thread: (figures of the label party, errors by party)."""
    address, errors = f"localhost:{portpicker.pick_unused_port()}", {}

    def take_part(name, settings, **more):
        try:
            own = VerticalActionConfig(party=name, **more)
            config = small.config(**{"run.directory": str(directories[name])})
            return vertical_parties.run_party(config, settings, own, False)
        except UserError as error:
            errors[name] = str(error)

    arguments = ("laboratory", others or settings)
    dial = {"coordinator": address, "certificate": str(kits / "laboratory")}
    thread = threading.Thread(target=take_part, args=arguments, kwargs=dial, daemon=True)
    thread.start()
    found = take_part("clinic", settings, address=address, certificate=str(kits / "coordinator"))
    thread.join(60)
    return found, errors


@pytest.mark.slow
def test_parties_over_a_connection_are_the_simulation(kits, tmp_path):
    """Also when they resume, and the log at the feature party has all that left it."""
    settings = small.settings(epochs=2, layers=0)
    simulated = vertical.train(small.config(**{"run.directory": str(tmp_path / "all")}), settings, False)
    directories = {name: tmp_path / name for name in ("clinic", "laboratory")}
    for epochs in (1, 2):
        found, errors = run(kits, directories, dataclasses.replace(settings, epochs=epochs))
        assert not errors
    assert found["test"] == pytest.approx(simulated["test"], abs=1e-6)
    assert not (tmp_path / "clinic" / "parties" / "laboratory").exists()
    log = list(audit_log.read(str(tmp_path / "laboratory" / "parties" / "laboratory" / audit_log.NAME)))
    steps = [entry for entry in log if entry["what"] == "step"]
    assert len(steps) == 2 * 8
    assert all(entry["bytes"] > 64 for entry in steps[:-1])


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
