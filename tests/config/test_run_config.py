"""The configuration as data: types, bounds, names, its form on disk, resuming."""

import json
import math
import subprocess
import sys

import pytest

from tests.config.samples import other_value
from tff_tx.config import FIELDS, SECTIONS, RunConfig, check_resume, flag_of, resolve
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting

BASE = {
    "flags": {
        **{"dataset": "digits", "rounds": 3, "clip_norm": 1.5, "clipping": "adaptive", "lora_rank": ["8"], "seed": 1},
        **{"model_config": '{"hidden_size": 8}', "horizons": ["3", "6"], "local_dp_clip": 0.5, "weighted": False},
        **{"local_dp_noise_multiplier": 1.0, "data": ["x.csv"], "flagfile": "", "run_dir": "runs/x"},
    },
    "seed": 1,
    "task": {"kind": "image_classification", "data": {"files": ["/there/x.csv"]}, "label_names": ["0", "1"]},
}


@pytest.mark.parametrize("path", FIELDS)
def test_every_setting_survives_the_disk(path):
    config = RunConfig.of({path: other_value(path)})
    assert config.is_set(path)
    implied = {"data.dataset": "file"} if path == "data.files" else {}
    assert config.changed() == {path: config.get(path), **implied}
    stored = json.loads(json.dumps(config.to_json()))
    assert RunConfig.from_json(stored) == config


def test_a_stored_configuration_of_version_1_is_read():
    config = RunConfig.from_json(BASE)
    assert (config.client.clip_norm, config.aggregation.clip_norm) == (1.5, "adaptive")
    assert config.model.config == {"hidden_size": 8}
    assert config.task.horizons == (3, 6)
    assert config.local_privacy.clip_norm == 0.5
    assert config.data.files == ("/there/x.csv",)
    assert config.algorithm.weighted is False


@pytest.mark.parametrize("stored", [[], {}, {"version": 99}, {"flags": 3}])
def test_what_is_no_configuration_is_a_sentence(stored):
    with pytest.raises(UserError, match="stored configuration"):
        RunConfig.from_json(stored)


def test_names_are_unique_and_documented():
    flags = [field.flag for field in FIELDS.values()]
    former = [name for field in FIELDS.values() for name in field.option.formerly]
    assert len({*flags, *former}) == len(flags) + len(former)
    for path, field in FIELDS.items():
        assert field.option.help.endswith("."), path
        assert "--" not in field.option.help, path
    assert all(section.title() for section in SECTIONS)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("run.rounds", -1, "run.rounds=-1: must be at least 1."),
        ("run.rounds", "x", "run.rounds=x: must be a whole number."),
        ("run.rounds", 2.5, "run.rounds=2.5: must be a whole number."),
        ("run.seed", 2**64, "must be at most"),
        ("task.sampling_rate", 2**31 - 1, "must be at most 1e+06"),
        ("task.sampling_rate", 1, "must be at least 1000"),
        ("algorithm.clusters", 2**31 - 1, "must be at most 1000"),
        ("algorithm.distillation_models", 1001, "must be at most 1000"),
        ("cohort.max_staleness", 1001, "must be at most 1000"),
        ("client.clip_norm", 0.0, "client.clip_norm=0.0: must be above 0."),
        ("client.learning_rate", float("nan"), "must be a number"),
        ("privacy.target_delta", 1.0, "must be below 1"),
        ("algorithm.name", "fed_magic", "algorithm.name=fed_magic: must be one of fed_avg, "),
        ("model.config", '{"a": 1}}', "must be a JSON object (character 9: Extra data)"),
        ("model.config", "[]", "must be a JSON object"),
        ("lora.rank", "2,x", "must be a list of whole numbers"),
        ("lora.rank", (2, 0), "must be at least 1"),
        ("aggregation.clip_norm", "much", "must be adaptive or a norm above 0"),
        ("aggregation.clip_norm", "nan", "must be adaptive or a norm above 0"),
        ("aggregation.zeroing_norm", "1e308", "must be adaptive or a norm at most 3e+38"),
        ("run.profile", 3, "must be true or false"),
        ("run.rounds", None, "run.rounds=None: must be a whole number."),
        ("run.rounds", float("inf"), "must be a whole number"),
        ("model.pretrained", ["a"], "must be a text"),
        ("run.nothing", 3, "there is no setting run.nothing"),
    ],
)
def test_wrong_values(path, value, sentence):
    with pytest.raises(UserError) as caught:
        RunConfig.of({path: value})
    assert sentence in str(caught.value)


def test_the_command_line_names_flags_where_the_library_names_fields():
    error = UserError(f"{setting('data.files')}=x: no {setting('run.directory')}.")
    assert str(error) == "data.files=x: no run.directory."
    assert error.describe(flag_of) == "--data=x: no --run_dir."


@pytest.mark.parametrize("path", FIELDS)
def test_what_may_change_on_resume(path):
    before = resolve(RunConfig())
    now = before.replace({path: other_value(path)})
    if FIELDS[path].option.may_change:
        check_resume(before, now)
    else:
        with pytest.raises(UserError, match=f"{path} was"):
            check_resume(before, now)


@pytest.mark.parametrize(
    "setting_path", [{"client.schedule": "cosine"}, {"server.schedule": "linear"}, {"privacy.target_epsilon": 3.0}]
)
def test_more_rounds_are_rejected_where_earlier_rounds_depend_on_them(setting_path):
    before = RunConfig.of(setting_path)
    with pytest.raises(UserError, match="run.rounds was 30, is 40"):
        check_resume(before, before.replace({"run.rounds": 40}))


def test_no_default_is_wrong_and_none_needs_tensorflow():
    code = (
        "import sys, tff_tx.config as c; c.check(c.resolve(c.RunConfig()), c.rules.RULES);"
        "assert not any(m.split('.')[0] in ('tensorflow', 'transformers') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fed_gkd_distills_by_default():
    assert RunConfig.of({"algorithm.name": "fed_gkd"}).algorithm.distillation_strength == 0.2
    assert not RunConfig().algorithm.distills


def test_one_epoch_can_be_chosen_where_the_data_set_has_steps():
    assert resolve(RunConfig()).client.steps == 16
    chosen = resolve(RunConfig.of({"client.epochs": 1})).client
    assert (chosen.steps, chosen.num_epochs) == (None, 1)


def test_what_a_run_of_version_1_derived_is_derived_again():
    flags = {"dataset": "stdlib", "weighted": True, "local_epochs": 1, "distillation_weight": 0.0, "rounds": 30}
    assert resolve(RunConfig.from_json({"flags": flags})) == resolve(RunConfig())
    assert RunConfig.from_json({"flags": {**flags, "group": [], "ensemble_steps": 3}}).ensemble.enabled


def test_groups_that_name_their_models_need_no_other():
    values = {"data.dataset": "file", "data.files": ("f",), "task.kind": "causal_lm", "ensemble.enabled": True}
    group = '{"name": "a", "architecture": "gpt2"}'
    assert resolve(RunConfig.of({**values, "ensemble.groups": (group,)})).model.architecture is None
    with pytest.raises(UserError, match="no model is named"):
        resolve(RunConfig.of(values))
    with pytest.raises(UserError, match="or model.architecture=sasrec for a model with random weights"):
        resolve(RunConfig.of({**values, "task.kind": "next_item"}))


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ({}, 2e-3),
        ({"model.pretrained": "m"}, 1e-4),
        ({"model.pretrained": "m", "client.optimizer": "adamw"}, 1e-4),
        ({"model.pretrained": "m", "model.trainable": "lora"}, 2e-3),
        ({"model.pretrained": "m", "model.trainable": "head"}, 2e-3),
        ({"model.pretrained": "m", "model.trainable": "layers:pooler"}, 1e-4),
        ({"model.pretrained": "m", "client.optimizer": "sgd"}, 2e-3),
        ({"model.pretrained": "m", "client.learning_rate": 2e-3}, 2e-3),
    ],
)
def test_the_clients_rate_is_by_default_that_of_what_is_trained(values, rate):
    assert RunConfig.of(values).client_learning_rate == rate


EXTREMES = [0, 1e-300, 0.5, 1, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 3e38, 3.4e38, 1e39, 1e308, math.inf]


@pytest.mark.parametrize("path", [path for path, field in FIELDS.items() if field.type in (int, float)])
def test_numbers_at_their_ends_are_values_or_a_sentence(path):
    """What is taken has the setting's type, is within what graphs compute with, and survives the disk."""
    field, facts = FIELDS[path], FIELDS[path].option
    ends = [value for value in (facts.least, facts.most, facts.above, facts.below) if value is not None]
    for value in [*ends, *(size * sign for size in EXTREMES for sign in (-1, 1)), math.nan, 10**400]:
        found, problem = _taken(path, value)
        assert (found is None) == (problem is not None)
        if problem is not None:
            assert problem.startswith(f"{path}=")
            assert ": must be " in problem
            continue
        number = found.get(path)
        assert type(number) is field.type
        assert facts.may_be_infinite or abs(number) <= (facts.most or (3e38 if field.type is float else 2**31 - 1))
        assert RunConfig.from_json(json.loads(json.dumps(files.plain(found.to_json())))) == found


def _taken(path, value):
    try:
        return RunConfig.of({path: value}), None
    except UserError as error:
        return None, str(error)
