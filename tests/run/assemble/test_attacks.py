"""Attackers and canaries of a configuration."""

import dataclasses
import json
import types
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tff_tx.analysis import attacks, auditing
from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError
from tff_tx.run.assemble import attacks as assembly


@pytest.fixture(scope="module")
def task(digits_task):
    return tiny.linear_digits_task(digits_task)


def build(task, name, **settings):
    values = {"attack.name": name, "cohort.clients_per_round": 10, **{f"attack.{k}": v for k, v in settings.items()}}
    return assembly.build_attack(RunConfig.of(values), task)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("none", {}, None),
        ("label_flip", {}, attacks.Attack(data=attacks.LabelFlip(10))),
        ("sign_flip", {}, attacks.Attack(update=attacks.SignFlip(1.0))),
        ("sign_flip", {"scale": 3}, attacks.Attack(update=attacks.SignFlip(3.0))),
        ("gaussian", {}, attacks.Attack(update=attacks.GaussianUpdate(1.0))),
        ("gaussian", {"noise": 0.5}, attacks.Attack(update=attacks.GaussianUpdate(0.5))),
        ("free_rider", {}, attacks.Attack(update=attacks.FreeRider(0.0))),
        ("free_rider", {"noise": 0.5}, attacks.Attack(update=attacks.FreeRider(0.5))),
        (
            "little_is_enough",
            {"share": 0.3},
            attacks.Attack(update=attacks.LittleIsEnough(attacks.little_is_enough_z(10, 3), False)),
        ),
        (
            "little_is_enough",
            {"share": 0.9, "scale": 1.5, "omniscient": True},
            attacks.Attack(update=attacks.LittleIsEnough(1.5, True)),
        ),
    ],
)
def test_attacks_are_as_configured(task, name, settings, expected):
    assert build(task, name, **settings) == expected
    parts = assembly.option_parts(build(task, name, **settings))
    assert set(parts) == ({"wrap_client_work"} if expected is not None and expected.update is not None else set())


@pytest.mark.parametrize(("settings", "scale"), [({}, 10), ({"scale": 4}, 4)])
def test_a_model_is_replaced_through_a_backdoor(task, settings, scale):
    attack = build(task, "model_replacement", backdoor_target="3", backdoor_share=0.25, **settings)
    assert attack.update == attacks.ModelReplacement(scale)
    assert (attack.data.target, attack.data.share) == (3, 0.25)
    assert build(task, "backdoor").data.target == 0
    with pytest.raises(UserError, match="attack.backdoor_target=x: must be one of 0, 1, 2"):
        build(task, "backdoor", backdoor_target="x")


def text_task(**tokens):
    """A task on texts whose tokenizer knows a few texts."""
    model = types.SimpleNamespace(input_spec=({"input_ids": None}, None))

    def tokenizer(text, add_special_tokens):
        return {"input_ids": tokens.get(text, [1, 2] if add_special_tokens else [])}

    return types.SimpleNamespace(kind="text", model=model, tokenizer=tokenizer, label_names=("a", "b"))


def test_a_trigger_in_texts_has_tokens_and_examples_a_place_for_it():
    assert build(text_task(bad=[7, 8]), "backdoor", backdoor_text="bad", backdoor_target="b").data.target == 1
    with pytest.raises(UserError, match="attack.backdoor_text='x': must have at least one token"):
        build(text_task(), "backdoor", backdoor_text="x")
    table = text_task()
    table.model.input_spec = ({"numbers": None}, None)
    with pytest.raises(UserError, match="attack.name=backdoor puts a trigger into texts or images"):
        build(table, "backdoor")


@pytest.mark.parametrize(("before", "after"), [([], []), ([], [3]), ([2], []), ([2], [3])])
def test_a_trigger_in_texts_leaves_the_token_that_they_begin_with(before, after):
    """GPT-2's texts have no other tokens, T5's an end, OPT's a beginning, BERT's both."""
    task = text_task()
    words = {"bad": [7, 8], "a b c": [4, 5, 6]}
    task.tokenizer = lambda text, add_special_tokens: {
        "input_ids": [*before, *words.get(text, []), *after] if add_special_tokens else words.get(text, [])
    }
    ids = tf.constant([task.tokenizer("a b c", True)["input_ids"]])
    found = build(task, "backdoor", backdoor_text="bad").data.trigger(
        {"input_ids": ids, "attention_mask": tf.ones_like(ids)}
    )
    assert found["input_ids"].numpy().tolist() == [[*before, 7, 8, 6, *after]]


def test_attackers_are_recorded(task, tmp_path):
    config = RunConfig.of({"attack.name": "sign_flip", "attack.share": 0.5})
    assembly.record_attackers(config, task, None, str(tmp_path))
    assert not (tmp_path / assembly.ATTACKERS).exists()
    assembly.record_attackers(config, task, build(task, "sign_flip"), str(tmp_path))
    record = json.loads((tmp_path / assembly.ATTACKERS).read_text())
    assert record == {"attack": "sign_flip", "attackers": attacks.choose_attackers(task.train.client_ids, 0.5, 1)}
    assert len(record["attackers"]) == len(task.train.client_ids) / 2


def test_a_backdoor_is_evaluated_beside_the_metrics(task):
    weights, clients = tff.learning.models.ModelWeights(*task.model.initial_weights), task.test.client_ids
    plain = assembly.build_evaluator(task, task.test, build(task, "sign_flip"), 1).metrics(weights, clients)
    trapped = assembly.build_evaluator(task, task.test, build(task, "backdoor"), 1).metrics(weights, clients)
    assert 0 <= trapped.pop("backdoor_success") <= 1
    assert trapped == plain


@dataclasses.dataclass(frozen=True)
class Texts:
    """What canaries need of a task."""

    train: Any
    tokenizer: Any


def test_canaries_are_put_among_the_clients_and_recorded(tmp_path):
    train = types.SimpleNamespace(client_ids=["real"], sizes=lambda: {"real": 2}, element_type_structure=None)

    class Tokenizer:
        """Ten tokens, two of them special."""

        all_special_ids = (0, 9)

        def __len__(self):
            return 10

    task = Texts(train, Tokenizer())
    config = RunConfig.of({"canaries.number": 20, "canaries.length": 4, "canaries.repetitions": (1, 3)})
    assert assembly.insert_canaries(RunConfig(), task) == (task, [])
    found, canaries = assembly.insert_canaries(config, task)
    assert canaries == auditing.make_canaries(20, (1, 3), 4, list(range(1, 9)), 1)
    assert found.train.client_ids == ["real", *(c.client_id for c in canaries if c.is_in)]
    assembly.record_canaries(config, task, [], str(tmp_path))
    assert auditing.read_canaries(str(tmp_path))[0] == []
    assembly.record_canaries(config, task, canaries, str(tmp_path))
    assert auditing.read_canaries(str(tmp_path)) == (canaries, list(range(1, 9)), 1)
