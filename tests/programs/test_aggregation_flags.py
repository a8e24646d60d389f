"""The flags of aggregation and attacks: what they build, and what they refuse."""

import json

import numpy as np
import pandas as pd
import psutil
import pytest
import tensorflow_federated as tff

from programs import aggregation_flags, attack_flags, training_flags  # noqa: F401
from tests import updates
from tests.aggregators import reference
from tests.processes import run
from tff_tx.analysis import attacks
from tff_tx.core.errors import UserError
from tff_tx.runtime import LocalEngine

DIGITS = [
    *("--dataset=digits", "--num_clients=6", "--clients_per_round=4", "--local_steps=2"),
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}',
]


def test_by_default_the_algorithms_own_aggregator_and_no_attack(parse):
    parse()
    aggregation_flags.check()
    attack_flags.check()
    assert aggregation_flags.options(seed=1) == {}
    assert attack_flags.attack(None) is None
    assert attack_flags.options(None) == {}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (["--aggregator=median", "--update_clip_norm=2"], lambda x, w: reference.median(clipped(x, 2), w)),
        (["--aggregator=mean", "--update_zeroing_norm=2.5"], lambda x, w: reference.mean(zeroed(x, 2.5), w)),
        (
            ["--update_zeroing_norm=2.5", "--update_clip_norm=2"],
            lambda x, w: reference.mean(clipped(zeroed(x, 2.5), 2), w),
        ),
        (["--aggregator=trimmed_mean", "--assumed_attackers=0.3"], lambda x, w: reference.trimmed_mean(x, w, 2)),
        (
            ["--aggregator=attention", "--attention_temperature=0.3", "--attention_floor=0.5"],
            lambda x, w: reference.attention(x, w, updates.LAYERS, temperature=0.3, floor=0.5),
        ),
        (
            ["--aggregator=geometric_median", "--median_iterations=3"],
            lambda x, w: reference.geometric_median(x, w, 3),
        ),
        (
            ["--aggregator=centered_clipping", "--centered_clip_norm=2"],
            lambda x, w: reference.centered_clipping([(x, w)], 2),
        ),
    ],
)
def test_flags_build_the_stack_that_they_name(parse, rng, line, wanted):
    parse(*line, "--clients_per_round=7")
    aggregation_flags.check()
    fields = aggregation_flags.options(seed=1)
    assert fields["sends_loss"] is False
    x, w = rng.normal(size=[7, updates.SIZE]).astype(np.float32), np.arange(1, 8)
    with LocalEngine(updates.build_process(fields["aggregator"]), threads=1) as engine:
        found, _, _ = updates.aggregate(engine, updates.clients(x, w))
    np.testing.assert_allclose(found, wanted(x.astype(np.float64), w), atol=1e-5)


def clipped(x, norm):
    return x / np.maximum(1, np.linalg.norm(x, axis=1, keepdims=True) / norm)


def zeroed(x, norm):
    return np.where(np.abs(x).max(1, keepdims=True) > norm, 0.0, x)


def test_adaptive_norms_are_estimated(parse):
    parse("--update_clip_norm=adaptive", "--update_zeroing_norm=adaptive")
    aggregation_flags.check()
    process = aggregation_flags.options(seed=1)["aggregator"].create(
        tff.TensorType(np.float32, [2]), tff.TensorType(np.float32)
    )
    assert {"zeroing", "zeroing_norm"} <= set(
        dict(tff.structure.iter_elements(process.next.type_signature.result.measurements.member))
    )


def test_attention_by_loss_makes_clients_send_it(parse):
    parse("--aggregator=attention", "--attention_key=loss")
    aggregation_flags.check()
    assert aggregation_flags.options(seed=1)["sends_loss"] is True


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            ["--aggregator=mean", "--assumed_attackers=0.1"],
            "--assumed_attackers=0.1 belongs to --aggregator=trimmed_mean or krum",
        ),
        (["--aggregator=krum", "--attention_floor=0.5"], "--attention_floor=0.5 belongs to --aggregator=attention"),
        (["--aggregator=bulyan", "--assumed_attackers=0.25"], "bulyan withstands less than 0.25"),
        (["--aggregator=krum", "--clients_per_round=4"], None),
        (["--aggregator=bulyan"], "withstands 1 attackers (--assumed_attackers=0.2) among 7 clients or more"),
        (["--aggregator=centered_clipping"], "needs --centered_clip_norm above 0"),
        (["--aggregator=attention", "--attention_temperature=0"], "--attention_temperature=0.0 has to be above 0"),
        (["--aggregator=attention", "--attention_step_size=inf"], "--attention_step_size=inf has to be above 0"),
        (
            ["--aggregator=attention", "--attention_key=loss", "--algorithm=mime_lite"],
            "those of --algorithm=mime_lite cannot",
        ),
        (["--aggregator=attention", "--attention_key=loss", "--local_epochs=2"], "set it to 1"),
        (["--update_clip_norm=much"], "--update_clip_norm=much is neither adaptive nor a norm"),
        (["--update_zeroing_norm=-1"], "--update_zeroing_norm=-1 is neither adaptive nor a norm"),
        (["--attackers=0.1"], "--attackers=0.1 belongs to --attack=label_flip or"),
        (["--attack=sign_flip", "--attack_noise=1"], "--attack_noise=1.0 belongs to --attack=gaussian or free_rider"),
        (["--attack=sign_flip", "--algorithm=fed_sgd"], "--algorithm is fed_sgd: change one"),
        (["--attack=little_is_enough", "--attackers=0.6"], "are 3: lower it, or set --attack_scale"),
    ],
)
def test_mistakes_are_refused(parse, line, sentence):
    parse(*line)
    if sentence is None:
        aggregation_flags.check()
        return
    check = attack_flags.check if "attack" in line[0] else aggregation_flags.check
    with pytest.raises(UserError) as error:
        check()
    assert sentence in str(error.value)


def test_more_updates_than_memory_are_refused(parse):
    parse("--aggregator=median", "--clients_per_round=100")
    aggregation_flags.check_memory(1000)
    with pytest.raises(UserError, match="holds the updates of all clients of a round at once: .* GB for"):
        aggregation_flags.check_memory(psutil.virtual_memory().total // 400)
    parse("--aggregator=attention")
    aggregation_flags.check_memory(psutil.virtual_memory().total)


class ATask:
    kind, label_names = "causal_lm", ()


@pytest.mark.parametrize("name", ["label_flip", "backdoor", "model_replacement"])
def test_attacks_on_classes_need_classes(parse, name):
    parse(f"--attack={name}")
    with pytest.raises(UserError, match=f"--attack={name} .*--task=causal_lm has no"):
        attack_flags.attack(ATask)


def test_flags_build_the_attack_that_they_name(parse, digits_task):
    parse("--attack=model_replacement", "--backdoor_target=7", "--clients_per_round=12")
    attack = attack_flags.attack(digits_task)
    assert (attack.data.target, attack.data.share, attack.update) == (7, 0.5, attacks.ModelReplacement(12))
    parse("--attack=little_is_enough", "--attackers=0.4", "--clients_per_round=10", "--omniscient")
    assert attack_flags.attack(None).update == attacks.LittleIsEnough(attacks.little_is_enough_z(10, 4), True)
    parse("--attack=gaussian", "--attack_noise=3")
    assert attack_flags.attack(None).update == attacks.GaussianUpdate(3.0)
    parse("--attack=backdoor", "--backdoor_target=x")
    with pytest.raises(UserError, match="--backdoor_target=x is none of the labels 0, 1"):
        attack_flags.attack(digits_task)


def test_a_run_with_attackers_records_them_and_measures_the_backdoor(tmp_path, cache_dir):
    line = [*DIGITS, "--rounds=2", "--run_dir=run", "--rounds_per_evaluation=1", f"--cache_dir={cache_dir}"]
    line += ["--attack=backdoor", "--attackers=0.5", "--aggregator=multi_krum", "--assumed_attackers=0.1"]
    run("train", *line, cwd=tmp_path)
    record = json.loads((tmp_path / "run" / "attackers.json").read_text())
    assert record["attack"] == "backdoor"
    assert len(record["attackers"]) == 3
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert table["aggregator/selected"].tolist() == [4, 4]
    assert table["eval/backdoor_success"].between(0, 1).all()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert 0 <= results["test"]["backdoor_success"] <= 1
