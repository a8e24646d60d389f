"""All rules, each on a configuration that breaks it, without a process."""

import re

import pytest

from tests.config.samples import make_hold, other_value
from tff_tx.config import FIELDS, RunConfig, check, flag_of, resolve
from tff_tx.config.capability_rules import CAPABILITIES, RETAINED, STORED
from tff_tx.config.conditions import BelongsTo, Chosen, Conflict, Law, Relation, Requires, paths_of
from tff_tx.config.rules import RULES
from tff_tx.core.errors import UserError

ALL = (*RULES, *CAPABILITIES)


def name(rule):
    return "-".join([type(rule).__name__, *paths_of(rule)])


def broken(rule):
    """A configuration that breaks a rule of this form."""
    config = RunConfig()
    if isinstance(rule, BelongsTo):
        return make_hold(config.replace({rule.path: other_value(rule.path)}), rule.owner, holds=False)
    config = make_hold(config, rule.first)
    if isinstance(rule.second, Chosen) and len(rule.second.others()) == len(rule.second.registry):
        pytest.skip("there is no such choice without plug-ins")
    return make_hold(config, rule.second, holds=isinstance(rule, Conflict))


@pytest.mark.parametrize("rule", [r for r in ALL if isinstance(r, (BelongsTo, Conflict, Requires))], ids=name)
def test_a_broken_rule_gives_a_sentence_that_names_its_settings(rule):
    config = broken(rule)
    problem = rule.problem(config)
    assert problem is not None
    with pytest.raises(UserError) as caught:
        check(config, [rule])
    flags = caught.value.describe(flag_of)
    assert problem.endswith(".")
    for path in paths_of(rule):
        assert path in str(caught.value)
        assert flag_of(path) in flags
    assert not re.search(r"[\x02\x03]", flags)


@pytest.mark.parametrize("rule", ALL, ids=name)
def test_defaults_break_no_rule(rule):
    assert rule.problem(resolve(RunConfig())) is None


@pytest.mark.parametrize("rule", ALL, ids=name)
def test_rules_are_about_settings_that_exist(rule):
    assert set(paths_of(rule)) <= set(FIELDS)


def imports_records(rule):
    parts = (getattr(rule, name, None) for name in ("first", "second", "owner"))
    return any(isinstance(part, Chosen) or part in (STORED, RETAINED) for part in parts)


def test_rules_that_import_nothing_are_apart():
    assert not any(imports_records(rule) for rule in RULES)
    assert all(isinstance(rule, (Law, Relation)) or imports_records(rule) for rule in CAPABILITIES)


FILE = {
    "data.dataset": "file",
    "data.files": ("f",),
    "task.kind": "forecasting",
    "model.architecture": "patch_transformer",
}
RELATIONS = [
    ({**FILE, "data.numeric_columns": ("a", "a")}, "name the column 'a' twice"),
    ({"data.label_names": ("a", "a")}, "has a name twice"),
    ({"data.label_names": ("a",), "data.label_file": "f"}, "both name the labels"),
    *(
        (
            {**FILE, "data.numeric_columns": ("a",), "data.label_names": ("a",)},
            "label_names=a cannot be combined with task.kind=forecasting",
        ),
        ({**FILE, "data.missing_numbers": "mean"}, "missing_numbers=mean has no effect without data.numeric_columns"),
        (
            {**FILE, "data.numeric_columns": ("a",), "data.missing_numbers": "last", "task.kind": "masked_lm"},
            "other records come in no order of time",
        ),
        (
            {**FILE, "data.numeric_columns": ("a",), "data.missing_numbers": "mean"},
            "missing_numbers=mean cannot be combined with task.kind=forecasting",
        ),
        (
            {**FILE, "data.numeric_columns": ("a",), "data.missing_numbers": "mean", "task.standardize": False},
            "means are known where columns are standardized",
        ),
        (
            {**FILE, "data.client_per_column": True, "data.client_column": "c"},
            "both say who the clients are",
        ),
        ({**FILE, "data.borders": (1, 2, 3)}, "data.borders=1,2,3 has no effect"),
        ({**FILE, "data.split": "time", "data.borders": (1, 2)}, "data.borders=1,2 must be three numbers of records"),
        (
            {**FILE, "data.split": "time", "data.borders": (1, 2, 3), "data.test_fraction": 0.2},
            "both say what is held out",
        ),
        (
            {**FILE, "data.numeric_columns": ("a",), "task.series_protocol": "standardized"},
            "task.series_protocol=standardized needs data.split=time",
        ),
        ({**FILE, "data.encoding": "klingon"}, "encoding=klingon: must be an encoding that Python knows"),
        ({**FILE, "data.encoding": "hex"}, "encoding=hex: must be an encoding"),
        ({**FILE, "data.delimiter": "||"}, "delimiter=||: must be one character"),
        ({"data.delimiter": ";"}, "data.delimiter=; has no effect"),
    ),
    ({**FILE, "data.categories": {"c": ["x"]}}, "'c' is not in data.categorical_columns="),
    *(
        ({**FILE, "data.categorical_columns": ("c",), "data.categories": {"c": values}}, "must have a list of texts")
        for values in ("x", [1], ["x", "x"])
    ),
    ({"algorithm.warmup_rounds": 30}, "warmup_rounds=30 must be less than run.rounds=30"),
    ({"algorithm.distillation_temperature": 2.0}, "has no effect without algorithm.distillation_weight"),
    ({"lora.rank": (2, 4), "model.trainable": "lora", "cohort.buffer_size": 2}, "start from the same A and B"),
    ({"cohort.min_clients": 6}, "cohort.min_clients=6 is more than cohort.clients_per_round=5"),
    (
        {"cohort.buffer_size": 2, "devices.seconds_per_example": 1.0, "cohort.min_clients": 3},
        "is more than cohort.buffer",
    ),
    ({"devices.report_deadline": 1.0}, "while clients take no time"),
    ({"devices.availability": "diurnal"}, "while clients take no time"),
    ({"cohort.over_selection": 2.0}, "while no client is late"),
    ({"cohort.buffer_size": 2}, "needs clients that take time"),
    (
        {
            "cohort.buffer_size": 2,
            "devices.seconds_per_example": 1.0,
            "compression.upload": "eden1",
            "engine.name": "ray",
        },
        "stale updates are scaled after they are decoded",
    ),
    ({"compression.fraction": 0.5}, "compression.fraction=0.5 has no effect with compression.upload=none"),
    ({"compression.upload": "top_k", "engine.name": "tff_native"}, "the error feedback of compression.upload=top_k"),
    ({"attack.name": "little_is_enough", "attack.share": 0.5}, "needs a minority of attackers"),
    ({"canaries.number": 3, "canaries.length": 65}, "canaries.length=65 is more than task.max_length=64"),
    ({"privacy.mechanism": "gaussian"}, "set exactly one"),
    (
        {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0, "compression.upload": "top_k"},
        "beyond the clip",
    ),
    (
        {
            "privacy.mechanism": "gaussian",
            "privacy.noise_multiplier": 1.0,
            "devices.availability": "diurnal",
            "devices.round_overhead_seconds": 1.0,
        },
        "cohorts come from fewer clients",
    ),
    (
        {"data.dataset": "breast_cancer", "example_privacy.clip_norm": 1.0, "example_privacy.noise_multiplier": 1.0},
        "which no noise hides",
    ),
    ({"run.monitor": "accuracy"}, "has no effect without run.patience or run.keep_best"),
    ({"run.patience": 2, "run.rounds_per_evaluation": 0}, "run.patience=2 needs evaluations"),
    ({"ensemble.enabled": True}, "needs public data"),
    (
        {"ensemble.enabled": True, "data.validation_fraction": 0.1, "server.momentum": 0.5},
        "another model of a client's update",
    ),
    ({"aggregation.aggregator": "krum", "aggregation.assumed_attackers": 0.4}, "withstands 2 attackers"),
    ({"aggregation.aggregator": "median", "compression.upload": "top_k"}, "compares single updates"),
    ({"algorithm.name": "mime_lite", "compression.upload": "top_k"}, "besides their update"),
    ({"algorithm.name": "mime_lite", "model.trainable": "lora", "lora.rank": (2, 4)}, "several ranks"),
    ({"algorithm.name": "fed_sgd", "client.learning_rate": 0.5}, "client.learning_rate=0.5 cannot be combined with"),
    ({"algorithm.name": "fed_exp", "aggregation.clip_norm": 1.0}, "with that of their plain mean"),
    ({"algorithm.name": "fed_exp", "aggregation.aggregator": "median"}, "with that of their plain mean"),
    (
        {"algorithm.name": "fed_exp", "cohort.buffer_size": 3, "devices.seconds_per_example": 1.0},
        "algorithm.name=fed_exp cannot be combined with cohort.buffer_size=3: its step size",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), RELATIONS)
def test_relations(values, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        check(resolve(RunConfig.of(values)))


def test_a_schedule_that_changes_nothing_is_none():
    fed_ex = {"algorithm.name": "fed_ex", "algorithm.client_choices": {"client_learning_rate": [0.1, 1.0]}}
    check(resolve(RunConfig.of({**fed_ex, "client.schedule": "constant"})))
    with pytest.raises(UserError, match="clients draw their rates"):
        check(resolve(RunConfig.of({**fed_ex, "client.schedule": "cosine"})))
