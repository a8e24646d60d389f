"""Settings of attacks and canaries: which combinations are rejected, and which are not."""

import re

import pytest

from tff_tx.analysis.attacks import Attack, AttackKind, SignFlip
from tff_tx.config import RunConfig, check, resolve
from tff_tx.config.registries import ATTACKS
from tff_tx.core.errors import UserError

IMAGES = {"data.dataset": "digits"}
TABLES = {"data.dataset": "breast_cancer"}
CACHED = {"model.trainable": "head", "model.cache_features": True}


def checked(values):
    return check(resolve(RunConfig.of(values)))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"attack.share": 0.3}, "attack.share=0.3 has no effect with attack.name=none"),
        (
            {"attack.name": "gaussian", "attack.scale": 2},
            "attack.scale=2.0 has no effect with attack.name=gaussian: remove it, or set "
            "attack.name=model_replacement or sign_flip or little_is_enough.",
        ),
        ({"attack.name": "sign_flip", "attack.noise": 2}, "attack.noise=2.0 has no effect with attack.name=sign_flip"),
        ({"attack.omniscient": True}, "attack.omniscient=True has no effect with attack.name=none"),
        (
            {"attack.name": "label_flip", "attack.backdoor_target": "1", **IMAGES},
            "attack.backdoor_target=1 has no effect with attack.name=label_flip",
        ),
        ({"attack.name": "sign_flip", "attack.backdoor_share": 1}, "attack.backdoor_share=1.0 has no effect"),
        ({"attack.backdoor_text": "x"}, "attack.backdoor_text=x has no effect"),
        ({"attack.backdoor_pixels": 3}, "attack.backdoor_pixels=3 has no effect"),
        (
            {"attack.name": "sign_flip", "algorithm.name": "mime_lite"},
            "attack.name=sign_flip cannot be combined with algorithm.name=mime_lite",
        ),
        (
            {"attack.name": "little_is_enough", "attack.share": 0.5},
            "attack.name=little_is_enough needs a minority of attackers, and attack.share=0.5 of "
            "cohort.clients_per_round=5 are 3: lower it, or set attack.scale.",
        ),
        ({**IMAGES, **CACHED, "attack.name": "backdoor"}, "model.cache_features=True cannot be combined with"),
        ({"attack.name": "label_flip"}, "attack.name=label_flip cannot be combined with task.kind=causal_lm"),
        ({"attack.name": "backdoor"}, "attack.name=backdoor cannot be combined with task.kind=causal_lm"),
        ({"canaries.length": 12}, "canaries.length=12 has no effect without canaries.number"),
        ({"canaries.repetitions": (2,)}, "canaries.repetitions=2 has no effect without canaries.number"),
        ({"canaries.number": 3, "canaries.repetitions": ()}, "canaries.repetitions is empty"),
        ({"canaries.number": 3, "canaries.length": 65}, "canaries.length=65 is more than task.max_length=64: lower it"),
        ({"canaries.number": 3, **IMAGES}, "canaries.number=3 cannot be combined with task.kind=image_classification"),
    ],
)
def test_settings_without_effect_or_sense_are_rejected(values, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        checked(values)


@pytest.mark.parametrize(
    "values",
    [
        {"attack.name": "sign_flip", "attack.scale": 2, "attack.share": 0.5},
        {"attack.name": "little_is_enough", "attack.share": 0.5, "attack.scale": 1, "attack.omniscient": True},
        {"attack.name": "free_rider", "attack.noise": 0.1},
        {"attack.name": "model_replacement", "attack.scale": 2, "attack.backdoor_pixels": 3, **IMAGES},
        {"attack.name": "backdoor", "attack.backdoor_target": "1", **IMAGES},
        {"attack.name": "label_flip", **TABLES},
        {"attack.name": "label_flip", **IMAGES, **CACHED},
        {"canaries.number": 3, "canaries.repetitions": (1, 2)},
    ],
)
def test_settings_with_an_effect_are_not(values):
    assert checked(values) is None


@pytest.mark.parametrize(
    ("path", "value"), [("attack.name", "nuke"), ("attack.share", 1.1), ("canaries.length", 1), ("canaries.number", -1)]
)
def test_values_out_of_range_are_rejected(path, value):
    with pytest.raises(UserError, match=f"^{path}=.*: must be "):
        RunConfig.of({path: value})


def test_an_attack_from_outside_is_ruled_by_its_record(monkeypatch):
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS._entries))
    kind = AttackKind(lambda settings, cohort, task: Attack(update=SignFlip(settings.scale)), ("scale",), None, True)
    ATTACKS.register("double")(kind)
    assert checked({"attack.name": "double", "attack.scale": 2}) is None
    with pytest.raises(UserError, match="attack.noise=1.0 has no effect with attack.name=double"):
        checked({"attack.name": "double", "attack.noise": 1})
    with pytest.raises(UserError, match="attack.name=double cannot be combined with algorithm.name=mime_lite"):
        checked({"attack.name": "double", "algorithm.name": "mime_lite"})
