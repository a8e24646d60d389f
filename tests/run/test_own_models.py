"""Runs whose clients have models of their own beside the global one."""

import numpy as np
import pandas as pd
import pytest
import transformers

import tff_tx as ft
from tests.complaints import problem
from tests.run.test_personal import TINY, own, trainer
from tff_tx.config import RunConfig, check, resolve
from tff_tx.core.errors import UserError
from tff_tx.run.assemble import own_adapters
from tff_tx.run.assemble.trained import export_run
from tff_tx.run.directory import read_run

pytestmark = pytest.mark.usefixtures("made_once")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "model"),
    [
        (ft.APFL(mixing=0.8, client=ft.Adam(1e-2)), {}),
        (ft.FedDPA(client=ft.Adam(1e-2)), {"trainable": ft.LoRA(rank=2)}),
    ],
)
def test_own_models_are_stored_evaluated_resumed_and_predict(cache_dir, tmp_path, algorithm, model):
    task = ft.load_task(
        data=ft.Data("digits", clients=ft.Dirichlet(4, alpha=0.1), test=0.25, split="within_client"),
        model=ft.Model(config=TINY, **model),
        cache_dir=cache_dir,
    )
    parts = {"algorithm": algorithm, "clients_per_round": 2}
    whole, killed = trainer(task, tmp_path / "whole", **parts), tmp_path / "killed"
    row = whole.fit(rounds=4).iloc[-1]
    trainer(task, killed, **parts).fit(rounds=2)
    trainer(task, killed, **parts).fit(rounds=4)
    stored, again = own(tmp_path / "whole"), own(killed)
    assert stored == again
    assert stored
    found = whole.evaluate("test")
    assert row["eval/clients_mean/accuracy"] == pytest.approx(found.by_client["accuracy"].mean())
    assert row["eval/global_mean/accuracy"] == pytest.approx(found.others["global model"]["accuracy"].mean())
    assert found.by_client["loss"].mean() < found.others["global model"]["loss"].mean()
    images = list(np.random.default_rng(0).uniform(size=[2, 1, 8, 8]).astype(np.float32))
    assert whole.predict(images, client=found.by_client.index[0]) != whole.predict(images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "settings", "lora"),
    [
        (ft.Ditto, {"strength": 0.1}, {}),
        (ft.APFL, {"mixing": 0.8, "mixing_rate": 0.1}, {"freeze_a": True}),
        (ft.FedDPA, {"mixing": 0.7}, {}),
        (ft.FedDPA, {"after": True, "personal_epochs": 2}, {"freeze_a": True}),
    ],
)
def test_own_adapters_are_evaluated_as_in_training_and_exported(cache_dir, tmp_path, algorithm, settings, lora):
    """After training they go into the published model, into which those that all share were merged."""
    task = ft.load_task(
        data=ft.Data("digits", clients=ft.Dirichlet(4, alpha=0.1), test=0.25, split="within_client"),
        model=ft.Model(config=TINY, trainable=ft.LoRA(rank=2, **lora)),
        cache_dir=cache_dir,
    )
    run = trainer(task, tmp_path / "run", algorithm=algorithm(client=ft.Adam(1e-2), **settings), clients_per_round=2)
    row = run.fit(rounds=3).iloc[-1]
    found = run.evaluate("test")
    for kind, table in (("clients", found.by_client), ("global", found.others["global model"])):
        assert row[f"eval/{kind}_mean/accuracy"] == pytest.approx(table["accuracy"].mean())
        assert row[f"eval/{kind}_worst/accuracy"] == pytest.approx(table["accuracy"].min())
    assert found.by_client["loss"].mean() < found.others["global model"]["loss"].mean()
    stored = own(tmp_path / "run")
    size = sum(w.nbytes for w in task.task.model.initial_weights[0])
    assert all(len(state) < size + 1000 for state in stored.values())
    assert row["comm/upload_bytes_per_client"] < 2 * size
    client, images = found.by_client.index[0], np.random.default_rng(0).uniform(size=[4, 1, 8, 8]).astype(np.float32)
    exported, _ = export_run(read_run(str(tmp_path / "run")), "pretrained", str(tmp_path / "exported"), client)
    model = transformers.TFAutoModelForImageClassification.from_pretrained(exported)
    classes = model(images, training=False).logits.numpy().argmax(axis=1)
    predicted = run.predict(list(images), client=client)
    assert [task.task.label_names[k] for k in classes] == [p["label"] for p in predicted]
    if algorithm is not ft.FedDPA:
        with pytest.raises(UserError, match=r"needs a run with algorithm\.name=fed_dpa_t or fed_dpa_f"):
            run.evaluate("test", similar_examples=5)
        return
    by_input = run.evaluate("test", similar_examples=5)
    pd.testing.assert_frame_equal(by_input.others["one share for all inputs"], found.by_client)
    assert by_input.by_client["loss"].mean() < by_input.others["global model"]["loss"].mean()
    assert not by_input.by_client["loss"].equals(found.by_client["loss"])
    again = run.predict(list(images), client=client, similar_examples=5)
    assert {frozenset(p) for p in again} == {frozenset({"label", "probabilities"})}
    assert again not in (predicted, run.predict(list(images)))


DITTO = {"data.dataset": "digits", "data.split": "within_client", "algorithm.name": "ditto"}
DPA = {"algorithm.name": "fed_dpa_t", "model.trainable": "lora"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"algorithm.name": "apfl", "algorithm.personal_strength": 1.0}, "has no effect with algorithm.name=apfl"),
        ({"data.split": "client"}, "algorithm.name=ditto needs data.split=within_client or time"),
        ({"engine.name": "tff_native"}, "algorithm.name=ditto needs engine.name=local"),
        ({"model.trainable": "lora", "lora.aggregation": "stack"}, "adapters are aggregated as products"),
        ({"model.personal": "head"}, "its clients do not train one model"),
        ({"example_privacy.clip_norm": 1.0, "example_privacy.noise_multiplier": 1.0}, "more than once"),
        ({"run.keep_updates": True}, "lacks clients' own weights"),
        ({"run.keep_best": True}, "run.keep_best=True cannot be combined with algorithm.name=ditto"),
        ({"aggregation.secure": "masks"}, "algorithm.name=ditto cannot be combined with aggregation.secure=masks"),
        ({"algorithm.name": "fed_dpa_t"}, "algorithm.name=fed_dpa_t needs model.trainable=lora"),
        ({**DPA, "algorithm.mixing_rate": 0.1}, "has no effect with algorithm.name=fed_dpa_t"),
        ({**DPA, "model.frozen_dtype": "bfloat16"}, "the shared adapters are added to the frozen weights"),
        ({**DPA, "lora.aggregation": "svd"}, "adapters are aggregated as products"),
        ({**DPA, "data.split": "client"}, "algorithm.name=fed_dpa_t needs data.split=within_client or time"),
        ({**DPA, "aggregation.secure": "masks"}, "cannot be combined with aggregation.secure=masks"),
    ],
)
def test_rules(values, sentence):
    check(resolve(RunConfig.of(DITTO)))
    check(resolve(RunConfig.of({**DITTO, "model.trainable": "lora"})))
    stateless = {"algorithm.name": "fed_recon", "model.personal": "head", "aggregation.secure": "masks"}
    check(resolve(RunConfig.of({**DITTO, **stateless, "run.keep_best": True})))
    check(resolve(RunConfig.of({**DITTO, **stateless})))
    check(resolve(RunConfig.of({**DITTO, **DPA, "algorithm.mixing": 0.3, "algorithm.personal_epochs": 2})))
    made = {"algorithm.name": "fed_dpa_f", "data.split": "client", "aggregation.secure": "masks"}
    check(resolve(RunConfig.of({**DITTO, **DPA, **made})))
    assert sentence in problem({**DITTO, **values})


@pytest.mark.parametrize("content", [None, b"noise"])
def test_shared_adapters_that_are_gone_or_damaged_are_a_sentence(content, tmp_path):
    if content is not None:
        (tmp_path / "personal").mkdir()
        (tmp_path / "personal" / "shared").write_bytes(content)
    with pytest.raises(UserError, match="personal/shared is missing or damaged"):
        own_adapters.load(str(tmp_path))
