"""Features of clients on disk: training on them is training on the examples, within a budget of bytes."""

import collections
import csv
import dataclasses
import glob
import os
import pathlib
import stat
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tff_tx import algorithms, datasets, models, runtime, tasks
from tff_tx.config import RunConfig
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.run import evaluation
from tff_tx.run.assemble import tasks as task_parts
from tff_tx.run.assemble.assembly import Assembly
from tff_tx.run.evaluation import Evaluator
from tff_tx.tasks.feature_data import client_path

BERT = {
    **{"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    **{"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2, "max_position_embeddings": 32},
}
GPT2 = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32}
LAST_QUERIES = r"layer_\._1/.*(query|value)/kernel"
LARGE = 10**9


def picture_task(cache_dir, **model):
    spec = tasks.ModelSpec(architecture="vit", config=tiny.VIT, trainable="head", frozen_dropout=False, **model)
    return tasks.create_task(
        "image_classification",
        datasets.DataSpec("digits", num_clients=8, validation_fraction=0.1, cache_dir=cache_dir),
        spec,
        ClientConfig(batch_size=16, max_examples=40),
        progress=False,
    )


@pytest.fixture(scope="module")
def pictures(cache_dir):
    return picture_task(cache_dir)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Four clients with some texts of different lengths each."""
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    generator = np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "who"])
        for i in range(48):
            words = "".join(generator.choice(list("ab c"), generator.integers(3, 20)))
            writer.writerow([f"x{words}", "ab"[i % 2], f"it's {i % 4}"])
    return str(path)


def text_task(path, cache_dir, kind="sequence_classification", architecture="bert", config=BERT, **model):
    data = datasets.DataSpec(
        "file", files=(path,), client_column="who", split="example", test_fraction=8, cache_dir=cache_dir
    )
    spec = tasks.ModelSpec(
        architecture=architecture, config=config, tokenizer="bytes", max_length=24, frozen_dropout=False, **model
    )
    return tasks.create_task(kind, data, spec, ClientConfig(batch_size=4, epochs=2), progress=False)


def trained(task, client_ids, cache=None, rounds=3, engine=runtime.LocalEngine):
    """The weights after some rounds on all clients."""
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=0.5,
    )
    with engine(task.process(algorithms.build_fed_avg(task.model, options)), 2) as running:
        state = running.initialize()
        for round_num in range(1, rounds + 1):
            if cache is not None:
                cache.prepare(client_ids)
            output = running.run_round(state, tasks.client_arguments(client_ids, 1, round_num))
            assert not output.failures
            state = output.state
        return running.model_weights(state), running.traffic()


def check_same_training(task, directory, engine=runtime.LocalEngine):
    cache = tasks.FeatureCache(task, str(directory), LARGE, threads=2)
    ids = task.train.client_ids[:3]
    (whole, traffic), (cached, cached_traffic) = (
        trained(task, ids, engine=engine),
        trained(cache.task, ids, cache, engine=engine),
    )
    moved = [np.abs(a - b).max() for a, b in zip(whole.trainable, task.model.initial_weights[0])]
    assert max(moved) > 1e-3
    for a, b in zip((*whole.trainable, *whole.non_trainable), (*cached.trainable, *cached.non_trainable)):
        np.testing.assert_allclose(b, a, atol=1e-4)
    assert cached_traffic == traffic
    return cache


@pytest.mark.slow
def test_a_head_on_features_is_trained_as_on_pictures(pictures, tmp_path):
    cache = check_same_training(pictures, tmp_path / "features")
    # A picture's features are 8 numbers, and nothing else of it is kept but the label.
    assert set(cache.task.train.element_type_structure) == {"feature_0", "label"}


@pytest.mark.slow
def test_on_tffs_runtime_too(pictures, tmp_path):
    check_same_training(pictures, tmp_path / "features", runtime.NativeEngine)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainable", "lora"),
    [
        (r"layers:layer_\._1/|classifier", None),
        ("lora", models.Lora(ranks=(2,), targets=LAST_QUERIES, dropout=0.1)),
        ("lora", models.Lora(ranks=(1, 2), targets=LAST_QUERIES)),
    ],
    ids=["upper layer", "adapters", "adapters of several ranks"],
)
def test_upper_layers_on_features_are_trained_as_on_texts(texts, cache_dir, tmp_path, trainable, lora):
    """With dropout above the cut, which the seed decides."""
    check_same_training(text_task(texts, cache_dir, trainable=trainable, lora=lora), tmp_path / "features")


@pytest.mark.slow
def test_a_language_model_too(texts, cache_dir, tmp_path):
    task = text_task(texts, cache_dir, "causal_lm", "gpt2", GPT2, trainable=r"layers:h_\._1/")
    check_same_training(task, tmp_path / "features")


@pytest.mark.slow
def test_texts_are_stored_at_their_own_length(texts, cache_dir, tmp_path):
    task = text_task(texts, cache_dir, trainable=r"layers:layer_\._1/")
    cache = tasks.FeatureCache(task, str(tmp_path / "features"), LARGE)
    client = task.train.client_ids[0]
    cache.prepare([client])
    examples = list(task.train.create_tf_dataset_for_client(client))
    stored = list(cache.task.train.create_tf_dataset_for_client(client))
    assert [len(e["feature_0"]) for e in stored] == [len(e["input_ids"]) for e in examples]
    assert [int(e["label"]) for e in stored] == [int(e["label"]) for e in examples]
    assert len({len(e["feature_0"]) for e in stored}) > 1
    # Embeddings and the first layer of the Keras model itself, text by text.
    bert = task.model.keras_model.bert
    for example, found in zip(examples, stored):
        hidden = bert(example["input_ids"][None], output_hidden_states=True, training=False).hidden_states[1]
        np.testing.assert_allclose(found["feature_0"], hidden[0], atol=1e-5)


@pytest.mark.slow
def test_evaluation_on_features_is_evaluation_on_examples(pictures, tmp_path, monkeypatch):
    """Bars show both what is computed before it, and itself."""
    shown = []

    class Bar(evaluation.tqdm):
        def update(self, n=1):
            super().update(n)
            shown.extend([] if self.disable else [(self.desc.strip(": "), self.n, self.total)])

    monkeypatch.setattr(evaluation, "tqdm", Bar)
    cache = tasks.FeatureCache(pictures, str(tmp_path / "features"), LARGE)
    weights = tff.learning.models.ModelWeights(*pictures.model.initial_weights)
    ids = pictures.validation.client_ids
    plain = Evaluator(pictures.model, pictures.eval_batches_fn(pictures.validation)).metrics(weights, ids)
    batches_fn, prepare = (
        cache.task.eval_batches_fn(cache.task.validation),
        lambda i, s: cache.prepare(i, "validation", s),
    )
    cached = Evaluator(cache.task.model, batches_fn, prepare_fn=prepare).metrics(weights, ids, show_progress=True)
    assert cached == pytest.approx(plain, rel=1e-5)
    done = [(number, len(ids)) for number in range(1, len(ids) + 1)]
    assert shown == [(what, *each) for what in ("Preparing", "Evaluating") for each in done]


@pytest.mark.slow
def test_the_budget_holds_and_the_least_recently_used_goes(pictures, tmp_path):
    directory, ids = str(tmp_path / "features"), pictures.train.client_ids
    cache = tasks.FeatureCache(pictures, directory, LARGE)
    cache.prepare(ids[:4])
    assert cache.bytes == sum(os.path.getsize(p) for p in files(directory))
    for client in ids[:4]:
        size = os.path.getsize(client_path(directory, "train", client))
        assert size <= cache.bytes_of_client(client) <= 2 * size

    budget = sum(map(cache.bytes_of_client, ids[:3])) + 2000
    cache = tasks.FeatureCache(pictures, directory, budget)
    cache.prepare([ids[0]])  # which makes it the last to go
    cache.prepare([ids[5]])
    assert cache.bytes <= budget
    left = set(files(directory))
    assert {client_path(directory, "train", c) for c in (ids[0], ids[5])} <= left
    assert client_path(directory, "train", ids[1]) not in left
    with pytest.raises(
        UserError, match=r"model.feature_cache_bytes=\d+ is less than the .* bytes that the features of the 8"
    ):
        cache.prepare(ids)
    assert cache.bytes <= budget


@pytest.mark.slow
def test_what_another_cache_of_the_directory_evicted_is_computed_again(pictures, tmp_path):
    """As an arm of a study, whose evaluator all arms share, gets another when it is trained again."""
    directory, ids = str(tmp_path / "features"), pictures.train.client_ids
    first = tasks.FeatureCache(pictures, directory, LARGE)
    first.prepare(ids[:2])
    budget = first.bytes_of_client(ids[2]) + 2000
    tasks.FeatureCache(pictures, directory, budget).prepare(ids[2:3])
    assert files(directory) == [client_path(directory, "train", ids[2])]
    first.prepare(ids[:1])
    assert client_path(directory, "train", ids[0]) in files(directory)
    first._evict({}, LARGE)  # which removes files that are gone already
    assert first.bytes == 0


def test_the_bytes_that_a_run_says_are_those_of_all_splits(pictures, tmp_path):
    cache = tasks.FeatureCache(pictures, str(tmp_path / "features"), LARGE)
    config = RunConfig.of({"model.cache_features": True, "model.feature_cache_bytes": LARGE})
    said = Assembly.cache_bytes(types.SimpleNamespace(config=config, cache=cache, task=pictures))
    for name, clients in task_parts.splits(pictures).items():
        cache.prepare(clients.client_ids, name)
    assert set(task_parts.splits(pictures)) > {"train"}
    assert cache.bytes <= said < 2 * cache.bytes


def test_a_budget_is_compared_without_reading_more_than_exceeds_it():
    class Sizes:
        asked: list = []

        def bytes_of_client(self, client_id, split):
            self.asked.append(client_id)
            return 10

    ids = {"test": ["a", "b", "c", "d"]}
    assert not task_parts.fits(Sizes(), 30, ids)
    assert Sizes.asked == ["a", "b"]
    assert task_parts.fits(Sizes(), 80, ids)


def files(directory):
    return glob.glob(os.path.join(directory, "*", "*.sqlite"))


@pytest.mark.slow
def test_started_again_it_goes_on_with_what_is_there(pictures, tmp_path):
    directory, ids = str(tmp_path / "features"), pictures.train.client_ids
    tasks.FeatureCache(pictures, directory, LARGE).prepare(ids[:2])
    before = {p: os.stat(p).st_ino for p in files(directory)}
    leftover = files(directory)[0] + ".tmp"
    with open(leftover, "wb") as file:
        file.write(b"half of it")
    progress = []
    tasks.FeatureCache(pictures, directory, LARGE).prepare(ids[:3], on_progress=lambda *told: progress.append(told))
    assert progress == [(1, 1)]
    assert not os.path.exists(leftover)
    assert {p: os.stat(p).st_ino for p in before} == before


@pytest.mark.slow
def test_features_are_taken_from_caches_of_the_same_model_and_data(pictures, tmp_path):
    """By an open cache, too; of another model, or of a directory that was being linked when it ended, nothing is."""
    ids, names = pictures.train.client_ids, ("first", "open", "other", "begun")
    first, open_one, other, begun = (str(tmp_path / name) for name in names)
    tasks.FeatureCache(pictures, first, LARGE).prepare(ids[:2])
    cache = tasks.FeatureCache(pictures, open_one, LARGE)
    cache.prepare(ids[1:3])
    before = {p: os.stat(p).st_ino for p in files(open_one)}
    for directory, fingerprint in ((other, "another"), (begun, None)):
        os.makedirs(os.path.join(directory, "train"))
        for client in ids[:4]:
            pathlib.Path(client_path(directory, "train", client)).write_text("of another model")
        if fingerprint:
            pathlib.Path(directory, "fingerprint.json").write_text(f'"{fingerprint}"')
    tasks.take_features(open_one, [first, other, begun])
    assert {p: os.stat(p).st_ino for p in before} == before
    cache.prepare(ids[:3], on_progress=lambda *done: pytest.fail("computed what is there"))
    assert cache.bytes == sum(map(os.path.getsize, files(open_one)))
    tasks.take_features(begun, [first])
    assert sorted(map(os.path.basename, files(begun))) == sorted(map(os.path.basename, files(first)))
    assert all(os.path.samefile(p, p.replace(begun, first)) for p in files(begun))


@pytest.mark.slow
def test_of_other_weights_nothing_is_left(pictures, cache_dir, tmp_path):
    directory, ids = str(tmp_path / "features"), pictures.train.client_ids
    tasks.FeatureCache(pictures, directory, LARGE).prepare(ids[:2])
    variable = pictures.model.keras_model.vit.weights[0]
    before = variable.numpy()
    try:
        variable.assign(before + 1)
        model = models.functional_model(
            pictures.model.keras_model,
            pictures.model.objective,
            pictures.preprocessing.x_spec,
            trainable="head",
            frozen_dropout=False,
        )
    finally:
        variable.assign(before)
    tasks.FeatureCache(dataclasses.replace(pictures, model=model), directory, LARGE).prepare(ids[2:3])
    assert len(files(directory)) == 1


def test_a_client_that_cannot_be_read_fails_alone(pictures, tmp_path, caplog):
    class Broken(tff.simulation.datasets.ClientData):
        fingerprint = "broken"
        client_ids = pictures.train.client_ids
        element_type_structure = pictures.train.element_type_structure
        sizes = pictures.train.sizes
        create_tf_dataset_for_client = None

        @property
        def serializable_dataset_fn(self):
            def dataset(client_id):
                wrong = tf.equal(client_id, pictures.train.client_ids[0])
                data = pictures.train.serializable_dataset_fn(client_id)

                def corrupt(example):
                    changed = collections.OrderedDict(example)
                    changed["label"] += tf.strings.to_number(tf.where(wrong, "bad", "0"), tf.int32)
                    return changed

                return data.map(corrupt)

            return dataset

    task = dataclasses.replace(pictures, train=Broken())
    directory = str(tmp_path / "features")
    tasks.FeatureCache(task, directory, LARGE, threads=2).prepare(task.train.client_ids[:2])
    assert len(files(directory)) == 1
    assert f"no features of client {task.train.client_ids[0]}" in caplog.text
    assert not glob.glob(os.path.join(directory, "*", "*.tmp"))


def test_inputs_that_are_drawn_anew_are_refused(pictures):
    with pytest.raises(UserError, match="model.cache_features: the inputs of task.kind=masked_lm are drawn anew"):
        tasks.FeatureCache(dataclasses.replace(pictures, kind="masked_lm"), "nowhere", LARGE)


@pytest.mark.slow
def test_damaged_features_are_computed_again(pictures, tmp_path, caplog):
    directory, ids = str(tmp_path / "features"), pictures.train.client_ids[:2]
    tasks.FeatureCache(pictures, directory, LARGE).prepare(ids)
    before = {path: pathlib.Path(path).read_bytes() for path in files(directory)}
    damaged = next(iter(before))
    changed = bytearray(before[damaged])
    changed[len(changed) // 2] ^= 1
    pathlib.Path(damaged).write_bytes(changed)
    tasks.FeatureCache(pictures, directory, LARGE).prepare(ids)
    assert {path: pathlib.Path(path).read_bytes() for path in files(directory)} == before
    assert f"{damaged} is damaged: its features are computed again" in caplog.text
    assert stat.S_IMODE(os.stat(damaged).st_mode) == 0o600
