"""Attacks on private runs by a reader who has everything that the privacy statement calls released."""

import dataclasses
import json
import pathlib
import re
import types

import numpy as np
import pytest
import soundfile

from tests import tiny
from tff_tx import datasets
from tff_tx.config import RunConfig, check
from tff_tx.config.algorithm import ClientConfig
from tff_tx.config.registries import ALGORITHMS, TASKS
from tff_tx.config.training_data import FINDINGS, PUBLIC, REJECTED, taken_as_public, unhidden
from tff_tx.core.errors import UserError
from tff_tx.privacy import outputs
from tff_tx.run.assemble import cohorts
from tff_tx.run.assemble.tasks import data_spec, model_spec
from tff_tx.tasks.create import config_fields, find_facts

CENTRAL = {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0, "cohort.sampling": "poisson"}
LOCAL = {"local_privacy.clip_norm": 1.0, "local_privacy.noise_multiplier": 1.0}
EXAMPLES = {"example_privacy.clip_norm": 1.0, "example_privacy.noise_multiplier": 1.0}
PRIVATE = [CENTRAL, LOCAL, EXAMPLES]

# A task's records, one of whom nobody else has the like, and what must be given so that nothing of it is found out.
_TEXT = ({"text": "at home"}, {"text": "a rare disease of a mayor"}, {})
_CLASS = {"data.label_names": ("no", "rare", "yes")}
RECORDS = {
    "causal_lm": _TEXT,
    "masked_lm": _TEXT,
    "sequence_to_sequence": ({"text": "at home", "target": "home"}, {"text": "rare", "target": "disease" * 9}, {}),
    "question_answering": (
        {"question": "home", "context": "at home", "answers": [{"text": "home", "answer_start": 3}]},
        {"question": "rare", "context": "rare disease", "answers": []},
        {},
    ),
    "sequence_classification": ({"text": "a", "label": "no"}, {"text": "a", "label": "rare"}, _CLASS),
    "multi_label_classification": ({"text": "a", "label": "no"}, {"text": "a", "label": "no;rare"}, _CLASS),
    "instruction_tuning": ({"prompt": "at home", "answer": "home"}, {"prompt": "rare", "answer": "disease" * 9}, {}),
    "sequence_regression": ({"text": "a", "label": "1"}, {"text": "a", "label": "99.5"}, {}),
    "token_classification": (
        {"tokens": ["a"], "tags": ["O"]},
        {"tokens": ["a"], "tags": ["B-rare"]},
        {"data.label_names": ("O", "B-rare")},
    ),
    "image_classification": (
        {"pixels": [[1, 2], [3, 4]], "label": "no"},
        {"pixels": [[0, 0], [0, 0]], "label": "rare"},
        _CLASS,
    ),
    "audio_classification": ({"audio": "home.wav", "label": "no"}, {"audio": "rare.wav", "label": "rare"}, _CLASS),
    "speech_recognition": ({"audio": "home.wav", "target": "home"}, {"audio": "rare.wav", "target": "rare"}, {}),
    "tabular_classification": (
        {"x": 1.0, "y": "town", "label": "no"},
        {"x": 99.0, "y": "mayor", "label": "rare"},
        {**_CLASS, "data.categories": {"y": ["town"]}, "task.standardize": False},
    ),
    "forecasting": ({"x": 1.0}, {"x": 99.0}, {}),
    "next_item": ({"label": "no"}, {"label": "rare"}, _CLASS),
}
COLUMNS = {
    **dict.fromkeys(("audio_classification", "speech_recognition"), {"model.architecture": "wav2vec2"}),
    "instruction_tuning": {"model.architecture": "t5"},
    "tabular_classification": {"data.numeric_columns": ("x",), "data.categorical_columns": ("y",)},
    "multi_label_classification": {"data.label_separator": ";"},
    "forecasting": {"data.numeric_columns": ("x",), "task.context_length": 1, "task.horizons": (1,)},
}


def write(path, records):
    """Clients of four records each in a file of JSON lines."""
    lines = [{**record, "user": f"u{n}"} for n, record in enumerate(records) for _ in range(4)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def settings(kind, path, **more):
    """A run on a file, by path."""
    of_kind = {"task.kind": kind, "model.architecture": "any", **COLUMNS.get(kind, {})}
    files = {"data.dataset": "file", "data.files": (path,), "data.client_column": "user", "data.test_fraction": 0.0}
    return {**of_kind, **files, "model.tokenizer": "bytes", **more}


def description(config):
    """What a run writes into its model's configuration, as JSON."""
    definition, model, data = TASKS[config.task.kind], model_spec(config), data_spec(config)
    survey = datasets.survey(data)
    facts = find_facts(definition, data, model, survey)
    train = datasets.load(data, definition.encoder(facts), False, survey).train
    return json.dumps([config_fields(definition, facts), definition.new_config(facts, train)], default=str)


@pytest.fixture
def neighbours(tmp_path):
    """From a task and more settings to the descriptions of models without and with a client who is like nobody."""

    def describe(kind, more):
        usual, odd, _ = RECORDS[kind]
        tokenizer = {"model.tokenizer": "characters"} if kind == "speech_recognition" else {}
        for name, samples in (("home", 8_000), ("rare", 12_000)):
            soundfile.write(tmp_path / f"{name}.wav", np.linspace(-0.5, 0.5, samples), 16_000)
        if kind == "question_answering":
            tiny.words_tokenizer(["home", "at"]).save_pretrained(tmp_path / "words")
            tokenizer = {"model.tokenizer": str(tmp_path / "words")}
        found = []
        others = [usual, {**usual, "label": "2" if usual.get("label") == "1" else "yes"}]
        for number, records in enumerate((others, [*others, odd])):
            more = {**more, **tokenizer, "data.cache_dir": str(tmp_path)}
            config = RunConfig.of(settings(kind, write(tmp_path / f"{number}.jsonl", records), **more))
            check(config)
            found.append(description(config))
        return found

    return describe


@pytest.mark.parametrize("kind", TASKS)
def test_what_a_single_client_has_is_not_named_in_a_private_model(kind, neighbours):
    given = RECORDS[kind][2]
    if given:
        without, with_client = neighbours(kind, {})
        assert without != with_client  # so it has something to hide
        for private in PRIVATE:
            with pytest.raises(UserError, match="a private run cannot find out"):
                neighbours(kind, private)
    for private in PRIVATE:
        without, with_client = neighbours(kind, {**private, **given})
        assert without == with_client


FOUND_OUT = {
    "names of labels, tags and items": settings("next_item", "f"),
    "values of categorical columns": settings("tabular_classification", "f", **_CLASS),
    "which rows cannot be read": {"data.on_bad_rows": "skip"},
    "means and deviations of numeric columns": {"data.dataset": "breast_cancer", "task.kind": "tabular_classification"},
    "frequencies of classes": settings("sequence_classification", "f", **{"task.balance_classes": True}, **_CLASS),
    "thresholds of labels": settings(
        "multi_label_classification",
        "f",
        **{"data.split": "within_client", "data.validation_fraction": 0.1, **_CLASS},
    ),
    "the model with the best evaluation": {"run.keep_best": True, "data.split": "time"},
    "evaluations that are withheld": {"privacy.metrics": "withheld", "data.split": "within_client"},
    "the clip norm": {"privacy.mechanism": "adaptive"},
    "the number of training clients": {},
    "the number of examples, of all clients and of the smallest": EXAMPLES,
    "the columns and types of the records": {},
    "the size of images": {"data.dataset": "digits", "task.kind": "image_classification"},
}
"""By finding, a run that finds it out."""


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda f: f.name)
def test_all_that_is_found_out_of_training_data_is_public_or_paid_for_or_rejected(finding):
    plain = RunConfig.of(FOUND_OUT[finding.name])
    assert finding.is_made(plain)
    assert unhidden(plain.replace({"example_privacy.clip_norm": None})) is None
    for private in PRIVATE:
        config = plain.replace({**private, **FOUND_OUT[finding.name]})
        rejected = finding.name in (unhidden(config) or "")
        assert rejected == (finding.mark == REJECTED)
        stated = any(text.startswith(finding.name) for text in taken_as_public(config))
        assert stated == (finding.mark == PUBLIC)


CLIENTS = [f"client{n}" for n in range(40)]


def drawn(directory, **values):
    """The cohorts of ten rounds of a run in a directory."""
    clients = types.SimpleNamespace(client_ids=CLIENTS, sizes=lambda: dict.fromkeys(CLIENTS, 8))
    config = RunConfig.of({**values, "run.directory": str(directory)})
    task = types.SimpleNamespace(train=clients, local=ClientConfig())
    cohort_fn = cohorts.build_cohort_fn(config, task, types.SimpleNamespace(download_bytes=0, upload_bytes=0))
    return [cohort_fn(round_num, 0, 0.0).selected for round_num in range(1, 11)]


@pytest.mark.parametrize("sampling", ["uniform", "poisson", "by_size", "min_separation"])
def test_cohorts_cannot_be_computed_from_the_report(sampling, tmp_path):
    """Amplification by sampling is for readers who do not know the cohorts; the report prints `run.seed`."""
    values = {**CENTRAL, "cohort.sampling": sampling, "cohort.clients_per_round": 8, "run.seed": 1}
    private = drawn(tmp_path / "private", **values)
    for reader in (drawn(tmp_path / "reader", **values), drawn(tmp_path, **{**values, "privacy.mechanism": "none"})):
        assert sum(map(list.__eq__, private, reader)) <= 1
    assert drawn(tmp_path / "private", **values) == private  # a resumed run goes on with its own
    seeded = {**values, "privacy.sampling_seed": 1}
    assert drawn(tmp_path / "seeded", **seeded) == drawn(tmp_path / "again", **{**seeded, "run.seed": 5})
    assert not (tmp_path / "seeded").exists()


@pytest.mark.parametrize(
    ("more", "columns"),
    [
        ({}, {"clients/sampled", "time/round_seconds", "train/loss"}),
        ({"devices.seconds_per_example": 1.0}, {"simulated/round_seconds"}),
        ({"compression.upload": "eden1"}, {"comm/upload_bytes_per_client"}),
        ({"data.split": "time"}, {"eval/loss"}),
        ({}, {"a/plugin's"}),
    ],
)
def test_what_is_outside_of_the_guarantee_is_stated_or_withheld(more, columns):
    exact = RunConfig.of({**CENTRAL, **more})
    withheld = exact.replace({"privacy.metrics": "withheld"})
    for column in columns:
        assert outputs.is_withheld(column, withheld)
        assert not outputs.is_withheld(column, exact)
        mark = outputs.mark_of(column, exact)
        assert mark == (None if "plugin" in column else outputs.OUTSIDE)
        group = f"`{column.partition('/')[0]}/`"
        assert (group in "; ".join(outputs.outside(exact))) == (mark is not None)
        assert group not in "; ".join(outputs.outside(withheld))
    for column in ("round_num", "privacy/epsilon", "server/update_non_finite"):
        assert not outputs.is_withheld(column, withheld)


def test_own_models_of_any_algorithm_are_the_clients_own(monkeypatch):
    """Also of one from outside of the package: what the registry's record says decides."""
    plugin = dataclasses.replace(ALGORITHMS["fed_avg"], name="plugin", own_weights=lambda shared, state: state)
    monkeypatch.setattr(ALGORITHMS, "_entries", {**ALGORITHMS._entries, "plugin": plugin})
    marks = {}
    for name in ("fed_avg", "scaffold", "ditto", "apfl", "ifca", "plugin"):
        config = RunConfig.of({**CENTRAL, "algorithm.name": name})
        marks[name] = outputs.mark_of("personal/a/round_1", config, outputs.FILES)
        assert ("`personal/`" in "; ".join(outputs.outside(config))) == (marks[name] is not None)
    own = dict.fromkeys(("ditto", "apfl", "ifca", "plugin"), outputs.SECRET)
    assert marks == {**own, "fed_avg": None, "scaffold": None}


def test_every_attack_of_the_documentation_is_a_test():
    """docs/attacks.md names one for each row of its table."""
    tests = pathlib.Path(__file__).parents[1]
    rows = [r for r in (tests.parent / "docs" / "attacks.md").read_text().splitlines() if r.startswith("|")][2:]
    for row in rows:
        path, name = re.search(r"\| `(\S+)::(\w+)` \|$", row).groups()
        assert re.search(rf"def {name}\(", (tests / path).read_text()), row
    assert rows
