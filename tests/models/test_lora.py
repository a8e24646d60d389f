"""The laws of low-rank adaptation, on each architecture of the zoo."""

import functools
import json

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import tensorflow_federated as tff
import tf_keras
import transformers

from tests.models import zoo
from tff_tx import models
from tff_tx.core.errors import UserError
from tff_tx.models.lora import DEFAULT_TARGETS

RANK = 3


@functools.cache
def adapted(name, **fields):
    """With adapters whose B is not zero: their variables are changed before the model is made functional."""
    member = zoo.BY_NAME[name]
    lora = models.Lora(ranks=(RANK,), alpha=6.0, seed=5, **fields)
    return models.functional_model(member.build(), member.objective, member.x_spec(), trainable="lora", lora=lora)


def plain_inputs(x):
    return {name: value for name, value in x.items() if name != models.SEED}


def moved(model, seed=0, size=0.3):
    """The model's weights with other values for all that is trained."""
    rng = np.random.default_rng(seed)
    trainable = [w + size * rng.standard_normal(w.shape).astype(np.float32) for w in model.initial_weights[0]]
    return tff.learning.models.ModelWeights(tuple(trainable), tuple(model.initial_weights[1]))


def predict(model, weights, x):
    return model.predict_on_batch((weights.trainable, weights.non_trainable), x, training=False).numpy()


def initial(model):
    return tff.learning.models.ModelWeights(*model.initial_weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.ALL)
def test_at_start_the_output_is_the_base_models(name):
    model, (x, _) = adapted(name), zoo.BY_NAME[name].sample()
    model.read(initial(model))
    np.testing.assert_allclose(
        predict(model, initial(model), x), model.keras_model(plain_inputs(x), training=False).logits, atol=1e-6
    )


@pytest.mark.parametrize("name", zoo.ALL)
def test_adapted_are_queries_and_values_and_the_head_of_a_classifier(name):
    model, member = adapted(name), zoo.BY_NAME[name]
    assert all(adapter.layer is not None for adapter in model.adapters)
    factors = [n for n in model.trainable_names if "/lora_" in n]
    assert len(factors) == 2 * len(model.adapters)
    # GPT-2 has one matrix for queries, keys and values; ALBERT's layers are one; T5's decoder attends twice in each.
    assert len(model.adapters) == {"gpt2": 2, "albert": 2, "t5": 12}.get(name, 4)
    others = set(model.trainable_names) - set(factors)
    assert bool(others) == member.objective.name.endswith("classification")
    assert name in DEFAULT_TARGETS


@pytest.mark.parametrize("name", zoo.ALL)
def test_merged_equals_unmerged_and_gradients_are_those_of_the_merged_weights(name):
    """Of W + s A B, A has the gradient s G B^T and B s A^T G, where G is that of the merged weight."""
    model, member = adapted(name), zoo.BY_NAME[name]
    x, labels = member.sample()
    weights = moved(model)
    before = predict(model, initial(model), x)
    trainable = [tf.constant(w) for w in weights.trainable]
    with tf.GradientTape() as tape:
        tape.watch(trainable)
        unmerged = model.predict_on_batch((trainable, weights.non_trainable), x, training=False)
        loss = model.loss(unmerged, labels)
    gradients = tape.gradient(loss, trainable)

    model.assign(weights)
    with tf.GradientTape() as tape:
        merged = model.keras_model(plain_inputs(x), training=False).logits
        loss = model.loss(merged, labels)
    full = tape.gradient(loss, [adapter.weight for adapter in model.adapters])
    np.testing.assert_allclose(unmerged, merged, atol=1e-5)
    assert np.abs(merged - before).max() > 1e-2
    for at, g in zip(model.adapter_positions, full):
        a, b = weights.trainable[at.a], weights.trainable[at.b]
        np.testing.assert_allclose(gradients[at.a], 2.0 * g.numpy() @ b.T, atol=2e-5)
        np.testing.assert_allclose(gradients[at.b], 2.0 * a.T @ g.numpy(), atol=2e-5)
    assert max(np.abs(gradients[at.a]).max() for at in model.adapter_positions) > 1e-4
    model.read(initial(model))


@pytest.mark.slow
def test_any_weight_is_adapted_by_its_sum():
    """Embeddings and convolutions too, which are no dense layers."""
    for name, targets in (("distilbert", "word_embeddings|q_lin/kernel"), ("vit", "projection/kernel|query/kernel")):
        model, (x, _) = adapted(name, targets=targets, residual=True), zoo.BY_NAME[name].sample()
        assert any(adapter.layer is None for adapter in model.adapters)
        assert any(adapter.layer is not None for adapter in model.adapters)
        weights = moved(model)
        rng = np.random.default_rng(1)
        residuals = [at.residual for at in model.adapter_positions]
        frozen = list(weights.non_trainable)
        for i in residuals:
            frozen[i] = 0.3 * rng.standard_normal(frozen[i].shape).astype(np.float32)
        weights = tff.learning.models.ModelWeights(weights.trainable, tuple(frozen))
        unmerged = predict(model, weights, x)
        model.assign(weights)
        merged = model.keras_model(plain_inputs(x), training=False).logits
        np.testing.assert_allclose(unmerged, merged, atol=1e-5)


def test_both_ways_to_compute_are_one():
    x, _ = zoo.BY_NAME["gpt2"].sample()
    inside, outside = adapted("gpt2"), adapted("gpt2", in_layers=False)
    assert all(adapter.layer is None for adapter in outside.adapters)
    assert [n.split("/")[1:] for n in inside.trainable_names] == [n.split("/")[1:] for n in outside.trainable_names]
    np.testing.assert_allclose(predict(inside, moved(inside), x), predict(outside, moved(outside), x), atol=1e-5)


def test_frozen_a_is_not_trained():
    model = adapted("vit", freeze_a=True)
    assert not [n for n in model.trainable_names if "lora_a" in n]
    assert len([n for n in model.trainable_names if "lora_b" in n]) == len(model.adapters) == 4
    for adapter, at in zip(model.adapters, model.adapter_positions):
        a = model.initial_weights[1][at.a]
        np.testing.assert_array_equal(a, adapter.a)
        assert np.abs(a).max() <= 1 / np.sqrt(16)
        assert np.std(a) == pytest.approx(1 / np.sqrt(3 * 16), rel=0.3)


def test_dropout_is_of_the_adapters_alone_and_a_function_of_the_seed():
    member = zoo.BY_NAME["vit"]
    keras_model = models.from_config(
        "TFAutoModelForImageClassification",
        "vit",
        {**keras_config(member), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    )
    lora = models.Lora(ranks=(RANK,), dropout=0.5)
    model = models.functional_model(keras_model, member.objective, member.x_spec(), trainable="lora", lora=lora)

    def training(weights, seed):
        x, _ = member.sample(seed=seed)
        return model.predict_on_batch((weights.trainable, weights.non_trainable), x, training=True).numpy()

    weights = moved(model)
    np.testing.assert_array_equal(training(weights, (1, 2)), training(weights, (1, 2)))
    assert np.abs(training(weights, (1, 2)) - training(weights, (1, 3))).max() > 1e-3
    start = initial(model)  # B is zero: whatever is dropped, nothing is added
    np.testing.assert_array_equal(training(start, (1, 2)), training(start, (1, 3)))


def keras_config(member):
    config = adapted(member.name).keras_model.config
    names = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return {**{name: getattr(config, name) for name in names}, "num_labels": zoo.CLASSES}


def test_attention_of_keras_is_adapted_too():
    """Its kernels have three dimensions: they are seen as the matrix that is nearest to a square."""
    inputs = tf_keras.Input([4, 6])
    outputs = tf_keras.layers.MultiHeadAttention(2, 3)(inputs, inputs)
    outputs = tf_keras.layers.Dense(zoo.CLASSES)(tf_keras.layers.Flatten()(outputs))
    keras_model = tf_keras.Model(inputs, outputs)
    model = models.functional_model(
        keras_model,
        models.classification(),
        tf.TensorSpec([None, 4, 6]),
        trainable="lora",
        lora=models.Lora(ranks=(2,)),
    )
    assert [adapter.shape for adapter in model.adapters] == [(6, 6), (6, 6)]
    assert len(model.trainable_names) == 4 + 2
    x = np.random.default_rng(0).standard_normal([3, 4, 6]).astype(np.float32)
    weights = moved(model)
    unmerged = predict(model, weights, tf.constant(x))
    model.assign(weights)
    np.testing.assert_allclose(unmerged, keras_model(x), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ranks": ()}, "lora.rank=: ranks are 1 or more"),
        ({"ranks": (4, 0)}, "lora.rank=4,0: ranks are 1 or more"),
        ({"alpha": 0.0}, "lora.alpha=0.0 is not more than 0"),
        ({"dropout": 1.0}, "lora.dropout=1.0 is no rate"),
        ({"ranks": (2, 4), "freeze_a": True}, "lora.freeze_a and several ranks"),
        ({"targets": "nowhere"}, "lora.targets=nowhere is in the name of no weight matrix of TFGPT2LMHeadModel"),
        ({"ranks": (40,)}, "lora.rank=40 is more than the 16x48 weight"),
        ({"targets": "wte|c_attn", "dropout": 0.1}, "lora.dropout=0.1 drops inputs of dense layers"),
    ],
)
def test_what_cannot_be_adapted_is_refused(fields, sentence):
    member, keras_model = zoo.BY_NAME["gpt2"], adapted("gpt2").keras_model
    with pytest.raises(UserError, match=sentence):
        models.functional_model(
            keras_model, member.objective, member.x_spec(), trainable="lora", lora=models.Lora(**fields)
        )


def test_weights_that_no_prediction_depends_on_are_refused():
    member = zoo.BY_NAME["bert"]
    config = transformers.BertConfig(
        **dict.fromkeys(("hidden_size", "intermediate_size"), 16),
        vocab_size=zoo.VOCABULARY,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    keras_model = transformers.TFBertModel(config)
    keras_model.build_in_name_scope()
    lora = models.Lora(ranks=(2,), targets="query/kernel|pooler/dense/kernel")
    with pytest.raises(UserError, match="do not depend on .*pooler/dense/kernel:0: leave them out"):
        models.functional_model(keras_model, member.objective, member.x_spec(), trainable="lora", lora=lora)


MODULES = {
    "roberta": [f"roberta.encoder.layer.{i}.attention.self.{n}" for i in (0, 1) for n in ("query", "value")],
    "distilbert": [f"distilbert.transformer.layer.{i}.attention.{n}" for i in (0, 1) for n in ("q_lin", "v_lin")],
    "gpt2": [f"transformer.h.{i}.attn.c_attn" for i in (0, 1)],
    "vit": [f"vit.encoder.layer.{i}.attention.attention.{n}" for i in (0, 1) for n in ("query", "value")],
    "t5": [
        *(f"encoder.block.{i}.layer.0.SelfAttention.{n}" for i in (0, 1) for n in "qv"),
        *(f"decoder.block.{i}.layer.0.SelfAttention.{n}" for i in (0, 1) for n in "qv"),
        *(f"decoder.block.{i}.layer.1.EncDecAttention.{n}" for i in (0, 1) for n in "qv"),
    ],
}
"""The names of adapted modules as PyTorch's models have them."""
HEADS = {
    "roberta": {"classifier.weight", "classifier.bias"},
    "distilbert": {f"{layer}.{leaf}" for layer in ("pre_classifier", "classifier") for leaf in ("weight", "bias")},
    "vit": {"classifier.weight", "classifier.bias"},
}


@pytest.mark.parametrize("name", MODULES)
def test_an_adapter_is_written_as_peft_has_it(name, tmp_path):
    """Keys, orientation and scale: the merge as PEFT does it, in NumPy, on weights as PyTorch has them."""
    model = adapted(name)
    weights = moved(model)
    models.check_adapter_format(model)
    models.save_adapter(model, weights, tmp_path, base="somewhere")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["base_model_name_or_path"] == "somewhere"
    assert config["target_modules"] == sorted(MODULES[name])
    assert config["fan_in_fan_out"] == (name == "gpt2")
    assert set(config["modules_to_save"] or ()) == {key.split(".")[0] for key in HEADS.get(name, ())}
    tensors = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    keys = {f"{module}.lora_{f}.weight" for module in MODULES[name] for f in "AB"} | HEADS.get(name, set())
    assert set(tensors) == {f"base_model.model.{key}" for key in keys}

    base = {id(a.weight): a.weight.numpy() for a in model.adapters}  # `save_adapter` leaves them unmerged
    model.assign(weights)
    found = []
    for adapter in model.adapters:
        change = adapter.weight.numpy() - base[id(adapter.weight)]
        change = change if name == "gpt2" else change.T  # Conv1D keeps [in, out] in PyTorch too
        for module in MODULES[name]:
            a, b = (tensors[f"base_model.model.{module}.lora_{f}.weight"] for f in "AB")
            assert a.shape[0] == b.shape[1] == config["r"] == RANK
            delta = config["lora_alpha"] / config["r"] * b @ a
            if (delta.T if config["fan_in_fan_out"] else delta).shape == change.shape and np.allclose(
                delta.T if config["fan_in_fan_out"] else delta, change, atol=1e-5
            ):
                found.append(module)
    assert sorted(found) == sorted(MODULES[name])
    model.read(initial(model))


def test_a_residual_is_written_as_factors_of_its_rank(tmp_path):
    model = adapted("vit", residual=True, targets="query/kernel")
    weights = moved(model)
    rng, frozen = np.random.default_rng(3), list(weights.non_trainable)
    at = model.adapter_positions[0]
    frozen[at.residual] = (rng.standard_normal([16, 2]) @ rng.standard_normal([2, 16])).astype(np.float32)
    weights = tff.learning.models.ModelWeights(weights.trainable, tuple(frozen))
    models.save_adapter(model, weights, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    tensors = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    module = "vit.encoder.layer.0.attention.attention.query"
    assert config["rank_pattern"] == {module: RANK + 2}
    assert config["alpha_pattern"] == {module: RANK + 2}
    a, b = (tensors[f"base_model.model.{module}.lora_{f}.weight"] for f in "AB")
    expected = frozen[at.residual] + 2.0 * weights.trainable[at.a] @ weights.trainable[at.b]
    np.testing.assert_allclose((b @ a).T, expected, atol=1e-4)


def test_only_kernels_of_dense_layers_fit_peft():
    with pytest.raises(UserError, match="word_embeddings.* is not the kernel of a dense layer"):
        models.check_adapter_format(adapted("distilbert", targets="word_embeddings|q_lin/kernel", residual=True))
