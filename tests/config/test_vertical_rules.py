"""What is wrong with the settings of a vertical federation is one sentence."""

import json
import pathlib

import pytest

from tff_tx.config.rules_vertical import check_vertical, middle_of
from tff_tx.config.vertical import VerticalConfig
from tff_tx.core.errors import UserError

FLAGS = pathlib.Path(__file__).resolve().parents[2] / "programs" / "flags"
BANK, SHOP = {"numeric": ["age"], "label": "default"}, {"categorical": ["city"]}

MIDDLE = {"shop": SHOP, "service": {"middle": True}, "tax": {"label": "default"}}
THREE = {"bank": BANK, "shop": SHOP, "tax": {"numeric": ["paid"]}}
SUM = {"top": "sum", "secure_sum": True}


def test_parties_are_what_they_are_called():
    parties = check_vertical(VerticalConfig(parties={"bank": BANK, "shop": SHOP}))
    assert {name: party.kind for name, party in parties.items()} == {"bank": "table", "shop": "table"}
    assert list(check_vertical(VerticalConfig())) == ["left", "right"]
    assert middle_of(check_vertical(VerticalConfig(parties=MIDDLE))) == "service"


@pytest.mark.parametrize(
    ("parties", "more", "error"),
    [
        ({"bank": BANK, "shop": {**SHOP, "label": "y"}}, {}, "vertical.parties: bank and shop have labels; give one"),
        ({"bank": SHOP, "shop": SHOP}, {}, "no party has labels; give one party the `label`"),
        ({"bank": BANK, "a/b": SHOP}, {}, "'a/b' must be the name of a directory, without slashes"),
        ({"bank": BANK, "..": SHOP}, {}, "'..' must be the name of a directory, without slashes"),
        ({"bank": {"label": "y"}}, {}, "no party knows anything but labels: add one with columns"),
        ({"bank": BANK, "shop": {}}, {}, "shop must have one of columns"),
        ({"bank": BANK, "shop": {"text": "t", "numeric": ["x"]}}, {}, "shop must have one of columns"),
        ({"bank": BANK, "shop": {**SHOP, "cut": "middle"}}, {}, "shop has no cut 'middle': must be one of tokens, poo"),
        ({"bank": {"label": "y", "cut": "tokens"}, "shop": SHOP}, {}, "bank has no cut 'tokens'"),
        ({"bank": BANK, "shop": {"colums": ["x"]}}, {}, "shop has 'colums': its fields are files, order, numeric"),
        ({"bank": BANK, "shop": {"text": ["x"]}}, {}, "must be a text"),
        ({"bank": BANK, "shop": {"text": "x"}}, {}, "texts and no checkpoint to read them with: name one"),
        ({"bank": BANK, "shop": {**SHOP, "pretrained": "x"}}, {}, "tables have none: remove pretrained"),
        ({"bank": BANK, "shop": {"text": "t", "pretrained": "a.keras"}}, {}, "shop has a Keras model: it reads numb"),
        ({"bank": BANK, "shop": {**SHOP, "trainable": "none"}}, {}, "trainable=none and no checkpoint"),
        ({"bank": BANK, "shop": {"image": [4, 4]}}, {}, "must be the first column of pixels and the one behind"),
        ({"bank": BANK, "shop": SHOP}, {"without": ("tax",)}, "without=tax: there is no party tax; there are bank, sh"),
        ({"bank": {"label": "y"}, "shop": SHOP}, {"without": ("bank",)}, "bank has no columns that could be missing"),
        ({}, {"heads": 5}, "cut_size=32 is no multiple of vertical.heads=5"),
        ({**MIDDLE, "tax": BANK}, {}, "tax has columns, which a party in the middle reads"),
        ({**MIDDLE, "other": {"middle": True}}, {}, "service and other are in the middle; there is one such party"),
        ({**MIDDLE, "service": {"middle": True, **SHOP}}, {}, "service is in the middle, and has no columns, labels o"),
        ({**MIDDLE, "service": {"middle": "yes"}}, {}, "service has middle='yes': must be true or false"),
        (MIDDLE, {"without": ("service",)}, "service has no columns that could be missing"),
        (MIDDLE, {"common_rows": 9}, "tax needs columns of its own and another party"),
        (MIDDLE, {"local_updates": 2, "stale_similarity": 0.5}, "exchanged, and service is between them: remove one"),
        ({}, {"common_rows": 9, "missing": 0.5}, "common_rows has no effect with vertical.missing: remove one"),
        ({}, {"common_rows": 9, "without": ("right",)}, "the other parties predict alone: remove vertical.without"),
        ({"bank": BANK}, {"common_rows": 9}, "bank needs columns of its own and another party"),
        ({"bank": BANK, "shop": {**SHOP, "cut": "tokens"}}, {"common_rows": 9}, "shop has the cut tokens, and one"),
        ({}, {"workset": 3}, "vertical.workset has no effect with vertical.local_updates=1: raise the latter, or rem"),
        ({}, {"stale_similarity": 0.5}, "vertical.stale_similarity has no effect with vertical.local_updates=1"),
        ({}, {"common_rows": 9, "local_updates": 2, "stale_similarity": 0.5}, "has no effect with vertical.stale_sim"),
        ({}, {"secure_sum": True}, "vertical.secure_sum needs vertical.top=sum: the top model has no other use"),
        ({}, {"secure_sum": True, "top": "sum"}, "needs two parties without labels: the sum of one party hides"),
        (THREE, {**SUM, "missing": 0.5}, "secure_sum excludes vertical.missing: masks cancel in sums"),
        (THREE, {**SUM, "cut_dtype": "float16"}, "secure_sum excludes vertical.cut_dtype"),
        ({"bank": BANK, "shop": {**SHOP, "cut": "tokens"}}, {"top": "sum"}, "vertical.top: shop has the cut tokens"),
        ({"bank": BANK}, {"top": "comparison"}, "vertical.top=comparison compares rows of two parties with columns"),
        ({}, {"top": "comparison", "common_rows": 9}, "there is one at a time: choose another"),
        ({"bank": BANK, "shop": {**SHOP, "cut": "tokens"}}, {"top": "comparison"}, "shop has the cut tokens, and one"),
        ({}, {"cut_compression": "uniform8", "cut_dtype": "float16"}, "cut_dtype has no effect with vertical.cut_comp"),
        ({}, {"cut_noise": 1.0}, "cut_noise needs vertical.cut_clip: noise hides what is bounded"),
        ({}, {"gradient_defence": "marvell", "kind": "regression"}, "=marvell hides two classes, not numbers: choose"),
        ({}, {"label_epsilon": 1.0, "kind": "regression"}, "label_epsilon randomizes classes, not numbers: remove it"),
    ],
)
def test_what_is_wrong_is_said(parties, more, error):
    with pytest.raises(UserError, match=error):
        check_vertical(VerticalConfig(parties=parties, **more))


@pytest.mark.parametrize("name", ["vertical_adult", "vertical_digits", "transfer_adult", "transfer_digits"])
def test_presets_are_valid(name):
    lines = (FLAGS / f"{name}.flags").read_text().splitlines()
    flags = dict(line.removeprefix("--").split("=", 1) for line in lines if line.startswith("--"))
    texts = {"dataset", "run_dir", "top"}
    own = {key: json.loads(value) for key, value in flags.items() if key not in texts}
    parties = check_vertical(VerticalConfig(**own))
    assert [party.label is None for party in parties.values()] == [False, True]
    assert (own.get("common_rows") is not None) == name.startswith("transfer")
