"""Plans: what of a configuration travels, and that both ends make the same computation of it."""

import json

import pytest

from tests import tiny
from tff_tx.config import RunConfig, check, resolve
from tff_tx.core.errors import UserError
from tff_tx.run.assemble import assemble, assembly, plans
from tff_tx.run.assemble.tasks import load_task
from tff_tx.runtime import form_digest
from tff_tx.runtime.form import RoundForm

PRIVATE = {
    "privacy__mechanism": "gaussian",
    "privacy__noise_multiplier": 1.0,
    "cohort__sampling": "poisson",
    "data__label_names": ("cat", "dog"),
}
OWN = {"data.files": ("/srv/own.csv",), "data.cache_dir": "/srv/cache"}


def config(**more):
    values = {
        "engine.name": "federation",
        "data.dataset": "file",
        "data.files": ("{silo}",),
        "data.silos": ("north", "south"),
        "task.kind": "image_classification",
        "model.architecture": "vit",
    }
    found = resolve(RunConfig.of({**values, **{path.replace("__", "."): value for path, value in more.items()}}))
    check(found)
    return found


def received(found):
    """A configuration as it comes to a participant."""
    return plans.config_of(json.loads(json.dumps(plans.plan_of(found))), OWN)


def test_a_plan_has_neither_paths_nor_secrets_of_the_coordinator():
    found = config(
        **PRIVATE,
        privacy__noise_seed=123456789,
        privacy__sampling_seed=987654321,
        data__test_files=("/home/me/held_out.csv",),
        run__directory="/home/me/run",
        engine__federation_certificate="/home/me/certs",
    )
    text = json.dumps(plans.plan_of(found))
    for secret in ("123456789", "987654321", "/home/me"):
        assert secret not in text
    assert plans.digest(plans.plan_of(found)) == plans.digest(plans.plan_of(config(**PRIVATE)))
    assert plans.digest(plans.plan_of(found)) != plans.digest(plans.plan_of(config(**PRIVATE, run__rounds=7)))


def test_a_plan_reads_no_files_of_the_participant():
    plan = plans.plan_of(config())
    plan["config"]["data"].update(label_file="/etc/passwd", test_files=["/etc/shadow"], cache_dir="/etc")
    found = plans.config_of(plan, OWN)
    assert (found.data.label_file, found.data.test_files) == (None, ())
    assert (found.data.files, found.data.cache_dir) == (OWN["data.files"], OWN["data.cache_dir"])


@pytest.mark.parametrize("plan", [{}, {"version": 1}, {"version": 2, "config": {}}, {"version": 1, "config": {"a": 1}}])
def test_what_is_no_plan_is_a_sentence(plan):
    with pytest.raises(UserError):
        plans.config_of(plan, OWN)


def test_a_plan_in_words_names_what_an_operator_decides_on():
    words = plans.describe(config()) + plans.describe(config(**PRIVATE))
    for part in (
        "north, south",
        "30 rounds of fed_avg",
        "vit",
        "privacy: gaussian",
        "in the clear",
        "names of the labels",
    ):
        assert part in words


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"algorithm__name": "fed_prox", "algorithm__proximal_strength": 0.3, "client__learning_rate": 0.01},
        {**PRIVATE, "privacy__mechanism": "adaptive"},
        {"compression__upload": "uniform8", "aggregation__clip_norm": "adaptive"},
    ],
    ids=["fed_prox", "private", "compressed"],
)
@pytest.mark.usefixtures("compiled_once")
def test_both_ends_make_the_same_computation(more, digits_task):
    task = tiny.linear_digits_task(digits_task)
    found = config(cohort__clients_per_round=4, **more)
    digests = {
        form_digest.digest(RoundForm.of(assembly.Assembly.of_participant(c, task, 20).process))
        for c in (found, received(found))
    }
    assert len(digests) == 1
    other = assembly.Assembly.of_participant(config(), task, 20).process
    assert form_digest.digest(RoundForm.of(other)) not in digests


@pytest.mark.slow
def test_a_model_that_is_made_again_computes_the_same(tmp_path):
    """Its layers have other names then, which texts of assertions in its graph have, too."""
    (tmp_path / "x.csv").write_text("who,text,label\n" + "".join(f"{n % 4},a b {n},{n % 2}\n" for n in range(24)))
    bert = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    found = resolve(
        RunConfig.of(
            {
                **{"data.files": (str(tmp_path / "x.csv"),), "data.client_column": "who", "model.architecture": "bert"},
                **{"data.cache_dir": str(tmp_path), "model.tokenizer": "bytes", "model.config": bert},
                **{
                    "task.kind": "sequence_classification",
                    "data.split": "within_client",
                    "cohort.clients_per_round": 2,
                },
            }
        )
    )
    digests = set()
    for _ in range(2):
        process = assemble(found, load_task(found, progress=False)).process
        digests.add(form_digest.digest(RoundForm.of(process)))
    assert len(digests) == 1
