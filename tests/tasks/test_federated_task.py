"""Data and model that do not fit are told apart, in one sentence."""

import dataclasses

import numpy as np
import pytest

from tests import tiny
from tff_tx import datasets, models, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError

GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2}


def text_task(cache_dir, kind="causal_lm", **model):
    fields = {"architecture": "gpt2", "config": GPT2, "tokenizer": "bytes", "max_length": 16, **model}
    return tasks.create_task(
        kind,
        datasets.DataSpec("stdlib", num_clients=3, cache_dir=cache_dir),
        tasks.ModelSpec(**fields),
        ClientConfig(),
        progress=False,
    )


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"config": {**GPT2, "n_positions": 8}}, "task.max_length=16 is more than the 8 positions of the model"),
        ({"config": {**GPT2, "vocab_size": 100}}, "ids up to 258, the model has a vocabulary of 100"),
        ({"tokenizer": None}, "task.kind=causal_lm needs a tokenizer"),
        ({"architecture": None}, "set exactly one"),
        ({"architecture": "vit"}, "this task.kind has no TensorFlow model of that type"),
        ({"config": {"hidden": 3}}, "gpt2 has no field hidden"),
    ],
)
def test_what_does_not_fit_is_told(cache_dir, model, sentence):
    with pytest.raises(UserError, match=sentence):
        text_task(cache_dir, **model)


def test_masked_lm_needs_a_mask_token(cache_dir, tmp_path):
    models.load_tokenizer("bytes").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"model.tokenizer={tmp_path} has no mask token"):
        text_task(cache_dir, kind="masked_lm", architecture="bert", config={}, tokenizer=str(tmp_path))


def test_an_unknown_task_is_told(cache_dir):
    with pytest.raises(UserError, match="task.kind=translation: must be one of"):
        text_task(cache_dir, kind="translation")


def test_classes_must_be_as_many(digits_task):
    with pytest.raises(UserError, match="the model has 10 classes, the data 3"):
        dataclasses.replace(digits_task, label_names=("a", "b", "c"))


def test_images_are_brought_to_the_size_of_a_new_model(cache_dir):
    task = tasks.create_task(
        "image_classification",
        datasets.DataSpec("digits", num_clients=3, cache_dir=cache_dir),
        tasks.ModelSpec(architecture="vit", config={**tiny.VIT, "image_size": 16, "num_channels": 3}),
        ClientConfig(),
        progress=False,
    )
    assert task.train.element_type_structure["pixel_values"].shape == (3, 16, 16)
    assert task.model.input_spec[0]["pixel_values"].shape == (None, 3, 16, 16)


def test_the_model_must_take_what_the_preprocessing_makes(digits_task):
    with pytest.raises(UserError, match="the model takes x float32"):
        dataclasses.replace(digits_task, model=tiny.linear_model())


def test_only_what_each_evaluation_gives_ranks_models(digits_task):
    """What texts that a model writes are scored by is in none during training."""
    writing = dataclasses.replace(digits_task, kind="sequence_to_sequence")
    assert "rouge_l" in {metric.name for metric in writing.metrics}
    assert writing.metrics_that_rank() == digits_task.metrics_that_rank()
    assert {"loss", "accuracy"} <= set(writing.metrics_that_rank())


def test_seeds_differ_between_clients_and_rounds_and_repeat():
    def seeds(**fields):
        arguments = {"client_ids": ["a", "b", "O'Brien é"], "seed": 1, "round_num": 1, **fields}
        return [tuple(c["seed"]) for c in tasks.client_arguments(**arguments)]

    assert seeds() == seeds()
    assert len({*seeds(), *seeds(round_num=2), *seeds(seed=2)}) == 9


def test_evaluation_masks_are_the_same_each_time(digits_task):
    batches = digits_task.eval_batches_fn(digits_task.test)
    client = digits_task.test.client_ids[0]
    first, second = (next(iter(batches(client)))[0]["seed"].numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
