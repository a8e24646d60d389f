"""Participants as they are, with their data, plan and policy, in threads beside the coordinator."""

import contextlib
import csv
import json
import operator
import os
import random
import shlex
import shutil
import stat
import threading

import numpy as np
import pandas as pd
import portpicker
import pytest

from tests import sharing
from tests.federation import parties
from tests.processes import ROOT, run
from tests.test_readme import commands
from tff_tx.config import RunConfig
from tff_tx.config.tools import ParticipantConfig
from tff_tx.core.errors import Interrupted, UserError
from tff_tx.federation import Coordinator, audit_log, contents
from tff_tx.federation.messages_pb2 import Header
from tff_tx.federation.secure_rounds import PHASES, model_digest
from tff_tx.run import directory, scoring
from tff_tx.run.assemble import own_models, plans
from tff_tx.run.assemble.tasks import evaluated_data, stored_config
from tff_tx.run.federation import Participant
from tff_tx.run.trainer import Trainer

OPERATORS_PAGE = ROOT / "docs" / "participant.md"
SILOS = {"north": 2, "south": 1, "west": 1}

pytestmark = pytest.mark.usefixtures("compiled_once")

SETTINGS = {
    "data.dataset": "file",
    "data.client_column": "patient",
    "data.label_names": ("a", "b"),
    "task.kind": "sequence_classification",
    "task.max_length": 8,
    "model.architecture": "bert",
    "model.tokenizer": "bytes",
    "model.config": {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
    "client.steps": 1,
    "run.rounds": 2,
    "run.rounds_per_evaluation": 1,
    "cohort.clients_per_round": 4,
}


def write_table(path, clients, seed):
    """A table of eight rows a client."""
    drawn = random.Random(seed)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "text", "label"])
        for client in clients:
            writer.writerows([client, *(("red dog", "a") if drawn.random() < 0.5 else ("sea", "b"))] for _ in range(8))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("participants")
    parties.make_kits(place / "certs", SILOS)
    for number, (name, clients) in enumerate(SILOS.items()):
        write_table(place / f"{name}.csv", [f"p{c}" for c in range(clients)], number)
        write_table(place / f"{name}_held_out.csv", ["q0", "q1"], 10 + number)
        write_table(place / f"{name}_later.csv", [f"p{c}" for c in range(clients)], 20 + number)
    for suffix in ("", "_later"):
        rows = [pd.read_csv(place / f"{name}{suffix}.csv").assign(silo=name) for name in SILOS]
        table = pd.concat(rows).assign(patient=lambda rows: rows["silo"] + "/" + rows["patient"])
        table.drop(columns="silo").to_csv(place / f"all{suffix}.csv", index=False)
    held_out = [pd.read_csv(place / f"{name}_held_out.csv") for name in SILOS]
    pd.concat(held_out).to_csv(place / "held_out.csv", index=False)
    return place


@pytest.fixture(scope="module", autouse=True)
def one_process_a_plan():
    """The participants of a plan share one process, as does a coordinator that comes again with its first one.

    That each participant makes it by itself: `test_programs`.
    """

    def plan_of(config):
        is_federation = config.engine.name == "federation"
        return (plans.digest(plans.plan_of(config)), config.run.directory) if is_federation else None

    with sharing.processes_by(plan_of):
        yield


def test_what_is_wrong_with_data_is_said_in_the_log_of_their_participant_alone(place, caplog):
    (place / "odd.csv").write_text("patient,text,label\np0,red dog,a\np1,sea,secret diagnosis\n")
    (place / "odd.toml").write_text("least_participants = 3\n")
    certificate, files = str(place / "certs" / "north"), (str(place / "odd.csv"),)
    own = {"certificate": certificate, "data": files, "policy": str(place / "odd.toml")}
    participant = Participant(
        ParticipantConfig(coordinator="localhost:1", state_dir=str(place / "odd"), **own), lambda *told: True, False
    )
    for phase, changes, told in (
        ("listing", {}, "secret diagnosis"),
        ("label_names", {"data.label_names": (), "data.label_column": "nobody"}, "nobody"),
    ):
        participant._config = config_of(place, "odd", settings(place, 1)).replace({"data.files": files, **changes})
        with pytest.raises(UserError, match="^the data here cannot be used .* reason that is in this"):
            participant._answer(Header(phase=phase), b"".join(contents.pack({"facts": {}})))
        assert told in caplog.text


def fit(place, name, **values):
    """The figures of a run, without times."""
    begin = Coordinator if "engine__name" in values else Trainer.from_config
    table = begin(config_of(place, name, values), progress=False).fit()
    return table[[column for column in table if not column.startswith("time/")]]


def settings(place, port):
    """Those of the coordinator of a run among the participants."""
    return {
        "engine__name": "federation",
        "engine__federation_address": f"localhost:{port}",
        "engine__federation_certificate": str(place / "certs" / "coordinator"),
        "data__files": ("{silo}",),
        "data__silos": tuple(SILOS),
        "run__participant_evaluation": True,
    }


def config_of(place, name, values):
    own = {path.replace("__", "."): value for path, value in values.items()}
    directory = {"run.directory": str(place / name), "data.cache_dir": str(place / "cache")}
    return RunConfig.of({**SETTINGS, **directory, **own})


class InTurn(Participant):
    """A participant that shares its process with others: TensorFlow's seeds and names are of a process."""

    turn = threading.Lock()

    def _answer(self, header, payload):
        with self.turn:
            return super()._answer(header, payload)


@contextlib.contextmanager
def serving(place, port, kind=InTurn, held_out="held_out"):
    """The participants, in threads."""
    found = []
    for silo in SILOS:
        (place / f"{silo}.toml").write_text("least_participants = 3\nevaluation = " + str(silo != "west").lower())
        own = ParticipantConfig(
            coordinator=f"localhost:{port}",
            certificate=str(place / "certs" / silo),
            data=(str(place / f"{silo}.csv"),),
            held_out=(str(place / f"{silo}_{held_out}.csv"),),
            policy=str(place / f"{silo}.toml"),
            state_dir=str(place / "state" / silo),
            threads=1,
        )
        found.append(kind(own, lambda words, digest: True, progress=False))
        threading.Thread(target=found[-1].serve, daemon=True).start()
    try:
        yield
    finally:
        for participant in found:
            participant.stop()


def federation(place, name, kind=InTurn, **values):
    """The figures of a run among the participants."""
    port = portpicker.pick_unused_port()
    with serving(place, port, kind):
        return fit(place, name, **settings(place, port) | values)


@pytest.mark.slow
def test_a_secure_run_is_arithmetic_to_the_bit_and_evaluates_where_the_data_are(place):
    files = {"data__files": (str(place / "all.csv"),), "data__test_files": (str(place / "held_out.csv"),)}
    local = fit(place, "local", aggregation__secure="arithmetic", data__validation_fraction=0.0, **files)
    secure = federation(place, "secure", aggregation__secure="masks")
    shared = [column for column in secure if not column.startswith("eval/")]
    pd.testing.assert_frame_equal(secure[shared], local[shared])
    assert not [column for column in secure if "north" in column]
    for name in ("loss", "accuracy", "num_examples"):
        np.testing.assert_allclose(secure[f"eval/participants/{name}"], local[f"eval/{name}"], rtol=1e-4)
    for silo in SILOS:
        log = list(audit_log.read(str(place / "state" / silo / audit_log.NAME)))
        assert [entry["what"] for entry in log if entry["what"] in PHASES] == [*PHASES] * 4  # trained, evaluated, twice
        assert {entry["what"] for entry in log} == {*PHASES, "ready", "listing", "form"}


@pytest.mark.slow
def test_each_participants_metrics_leave_if_its_policy_lets_them(place):
    table = federation(place, "clear")
    assert {c.split("/")[-2] for c in table if c.startswith("eval/participants/")} == {"participants", "north", "south"}
    counts = table[[f"eval/participants/{name}num_examples" for name in ("north/", "south/", "")]].to_numpy()
    np.testing.assert_array_equal(counts, [[16, 16, 32]] * 2)
    assert os.path.exists(place / "clear" / "report.md")


@pytest.mark.slow
def test_participants_add_the_noise_and_bound_what_it_is_accounted_for(place):
    """Each round costs epsilon, and each client of a participant is counted in each."""
    own = {
        "aggregation__secure": "masks",
        "privacy__mechanism": "skellam",
        "privacy__noise_multiplier": 1.0,
        "privacy__metrics": "exact",
        "run__participant_evaluation": False,
    }
    table = federation(place, "noised", **own)
    assert table["privacy/epsilon"].iloc[-1] > table["privacy/epsilon"].iloc[0] > 0
    with open(place / "noised" / "report.md") as file:
        statement = " ".join(file.read().split())
    assert "accounted with 3 of 3 shares" in statement
    assert "Each participant refuses sums over fewer than that" in statement
    counts = [json.loads(path.read_text()) for path in (place / "state").glob("*/sums_*.json")]
    assert sorted(name for each in counts for name in each) == ["north/p0", "north/p1", "south/p0", "west/p0"]
    assert {number for each in counts for number in each.values()} == {2}


class Busy(InTurn):
    """In the second round the participant of the south fails once, when the others have trained."""

    has_failed = False

    def _train(self, round_num, *arguments):
        answer = super()._train(round_num, *arguments)
        if self.name == "south" and round_num == 2 and not Busy.has_failed:
            Busy.has_failed = True
            raise UserError("busy.")
        return answer


RETAINING = {
    **{"run__participant_evaluation": False, "run__rounds": 5, "run__rounds_per_checkpoint": 2, "client__steps": 2},
    **{"client__optimizer": "sgd", "client__learning_rate": 0.1},
}


def check_equal_training(found, expected):
    columns = [column for column in expected if column.startswith("train/")]
    assert len(found) == len(expected) == 5
    pd.testing.assert_frame_equal(found[columns], expected[columns], rtol=1e-4)


def on_one_machine(place, name, **own):
    files = {"data__files": (str(place / "all.csv"),), "data__test_files": (str(place / "held_out.csv"),)}
    return fit(place, name, **{"data__validation_fraction": 0.0, **own, **files})


@pytest.mark.slow
def test_what_clients_retain_stays_with_their_participant(place):
    own = {**RETAINING, "algorithm__name": "fed_dyn", "cohort__clients_per_round": 3}
    found = federation(place, "dyn", **own)
    check_equal_training(found, on_one_machine(place, "dyn_here", **own))
    assert not (place / "dyn" / "client_states").exists()
    kept = {silo: [*(place / "state" / silo).glob("client_states_*/*/round_*")] for silo in SILOS}
    assert all(kept.values())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for paths in kept.values() for path in paths)


@pytest.mark.slow
def test_a_round_that_did_not_count_leaves_nothing_with_participants(place):
    """It is tried again, and a coordinator that goes back finds what clients retained then."""
    own = {**RETAINING, "algorithm__name": "scaffold", "cohort__min_clients": 4}
    Busy.has_failed, port = False, portpicker.pick_unused_port()
    with serving(place, port, Busy):
        found = fit(place, "busy", **settings(place, port) | own)
        assert Busy.has_failed
        shutil.rmtree(place / "busy" / "checkpoints" / "round_5")
        again = fit(place, "busy", **settings(place, port) | own)
        check_equal_training(found, on_one_machine(place, "busy_here", **own))
        pd.testing.assert_frame_equal(again, found)
        for directory in (place / "state" / "west").glob("client_states_*"):
            shutil.rmtree(directory)
        shutil.rmtree(place / "busy" / "checkpoints" / "round_5")
        with pytest.raises(Interrupted, match="west: what its clients retained until round 4 is gone"):
            fit(place, "busy", **settings(place, port) | own)


HEAD = (8, 2)
"""The shape of the classifier's weights, which no others of the model have."""


class Told(Busy):
    """The same, which notes the shapes of arrays in answers to training requests, and when it writes which model."""

    shapes: list = []
    written: list = []

    def _retain(self, weights):
        found = super()._retain(weights)
        if self.name == "north":
            Told.written.append((model_digest("", weights), os.stat(f"{self._own_weights()}/model").st_mtime_ns))
        return found

    def _train(self, *arguments):
        answer = super()._train(*arguments)
        Told.shapes.append([array.shape for array in contents.unpack(b"".join(answer))[1]])
        return answer


def evaluated(run_dir, path):
    """The metrics of each client of a run on one machine, with its own model."""
    run = directory.read_run(str(run_dir))
    data, _ = evaluated_data(RunConfig.of({"data.files": (str(path),)}), frozenset({"data.files"}), run)
    return scoring.evaluate(stored_config(run, data), "train", run=run, progress=False).by_client


@pytest.mark.slow
@pytest.mark.parametrize("own", [{"model__personal": "head"}, {"algorithm__name": "ditto"}], ids=["personal", "beside"])
def test_models_of_clients_own_stay_with_their_participant(place, own):
    """They are as on one machine, though a round is tried again, and what is evaluated is each client's own."""
    own, name = {**RETAINING, "cohort__min_clients": 4, **own}, f"own_{[*own.values()][0]}"
    Busy.has_failed, port = False, portpicker.pick_unused_port()
    Told.shapes.clear()
    Told.written.clear()
    coordinators = settings(place, port) | own | {"run__participant_evaluation": True, "run__rounds_per_evaluation": 2}
    with serving(place, port, Told, held_out="later"):
        found = fit(place, name, **coordinators)
        assert Busy.has_failed
        shutil.rmtree(place / name / "checkpoints" / "round_5")
        again = fit(place, name, **coordinators)
    pd.testing.assert_frame_equal(again, found)
    here = {"data__files": (str(place / "all.csv"),), "data__validation_fraction": 0.0, "data__test_fraction": 0.0}
    check_equal_training(found, fit(place, f"{name}_here", **here, **own))
    expected = evaluated(place / f"{name}_here", place / "all_later.csv")
    assert expected.loc[["north/p0", "north/p1"], "loss"].diff().abs().max() > 1e-5
    for silo in ("north", "south"):
        rows = expected[expected.index.str.startswith(silo)]
        for metric in ("loss", "accuracy"):
            np.testing.assert_allclose(
                found[f"eval/participants/{silo}/{metric}"].iloc[-1], rows[metric].mean(), rtol=1e-3
            )
    (shapes,) = {tuple(shapes) for shapes in Told.shapes}
    assert shapes.count(HEAD) == (0 if "model__personal" in own else 1)  # of the shared model alone
    assert not list((place / name).glob("personal/*/round_*"))
    check_own_predictions(place / "state" / "north", place / f"{name}_here", "model__personal" in own)
    models, times = (list(map(operator.eq, each, each[1:])) for each in zip(*Told.written))
    assert models == times  # written when it is another
    assert {*models} == {True, False}


def check_own_predictions(state_dir, here, has_head):
    """A participant's directory is that of a run: its clients' models are those that they have on one machine.

    The page's command that predicts is run for clients that have a head of their own, the one that exports for others.
    """
    own_dir = max(state_dir.glob("personal_*"), key=lambda path: path.stat().st_mtime)
    assert stat.S_IMODE(own_dir.stat().st_mode) == 0o700
    found, expected = ([own_weights(path, f"north/p{c}") for c in range(2)] for path in (own_dir, here))
    for weights, others in zip(found, expected):
        np.testing.assert_allclose(weights, others, rtol=1e-3, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    np.testing.assert_array_equal(own_weights(own_dir, "p1"), found[1])  # by its name in held-out rows
    with pytest.raises(UserError, match=r"client=south/p0: .* has no such client; name one of north/p0"):
        own_weights(own_dir, "south/p0")
    plan = own_dir.name.removeprefix("personal_")
    predict, export = (shlex.split(c.replace("$PLAN", plan)) for c in commands(OPERATORS_PAGE) if "$PLAN" in c)
    if has_head:
        (line,) = run(predict[2], *predict[3:], cwd=state_dir.parent.parent)[0].splitlines()
        assert json.loads(line)["label"] in "ab"
    else:
        run(export[2], *export[3:], cwd=state_dir.parent.parent)
        (exported,) = own_dir.glob("clients/north_p1/pretrained/*.safetensors")
        assert stat.S_IMODE(exported.stat().st_mode) == 0o600


def own_weights(run_dir, client):
    """All weights of a client's own model, float [weights]."""
    model = own_models.client_model(directory.read_run(str(run_dir)), client, "predict.client")
    return np.concatenate([weight.ravel() for weight in model.get_weights()])
