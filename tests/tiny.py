"""Models and data small enough for a test."""

from __future__ import annotations

import collections
import dataclasses
import functools

import numpy as np
import tensorflow as tf
import tf_keras
import tokenizers
import transformers

from tff_tx import datasets, models, tasks
from tff_tx.config.algorithm import ClientConfig

VIT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "patch_size": 4,
    "hidden_dropout_prob": 0.1,
}


def digits_task(cache_dir, local=None, **data):
    """An image classification task with a tiny ViT."""
    return tasks.create_task(
        "image_classification",
        datasets.DataSpec("digits", num_clients=8, cache_dir=cache_dir, **data),
        tasks.ModelSpec(architecture="vit", config=VIT),
        local or ClientConfig(batch_size=16, max_examples=40),
        progress=False,
    )


@functools.cache
def linear_model(shape=(5,), classes=3, dropout=0.0, name="x", frozen=False):
    """A linear classifier over inputs {name}, with weights that are not zero; one model for all who ask for it.

    It may have a frozen layer in front.
    """
    layers = [tf_keras.layers.Input(shape), tf_keras.layers.Flatten()]
    if frozen:
        fixed = tf_keras.initializers.GlorotUniform(seed=0)
        layers.append(tf_keras.layers.Dense(shape[-1], kernel_initializer=fixed, trainable=False))
    if dropout:
        layers.append(tf_keras.layers.Dropout(dropout))
    layers.append(tf_keras.layers.Dense(classes, bias_initializer="ones", kernel_initializer="ones"))
    inner = tf_keras.Sequential(layers)

    class Model(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, inputs, training=False):
            return self.inner(inputs[name], training=training)

    model = Model()
    model({name: np.zeros([1, *shape], np.float32)})
    spec = collections.OrderedDict([(name, tf.TensorSpec([None, *shape])), ("seed", tf.TensorSpec([2], tf.int64))])
    return models.functional_model(model, models.classification(), spec)


def linear_digits_task(task):
    """A `digits_task` with a linear model, whose graphs are a fifth of the Transformer's."""
    model = linear_model((1, 8, 8), classes=10, dropout=0.1, name="pixel_values")
    return dataclasses.replace(task, model=model)


def client_data(num_examples, features=5, classes=3, seed=0):
    """Examples of one client: float32 [n, features], int32 [n]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=[num_examples, features]).astype(np.float32)
    return x, rng.integers(0, classes, num_examples).astype(np.int32)


def batches(x, y, batch_size):
    """A client's data as the batches of `linear_model`."""
    seeds = tf.data.Dataset.range(1000).map(lambda i: tf.stack([i, i]))
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
    return tf.data.Dataset.zip((data, seeds)).map(lambda xy, seed: (collections.OrderedDict(x=xy[0], seed=seed), xy[1]))


def weights_of(state):
    """The model in a state as NumPy arrays."""
    weights = state.global_model_weights
    return [np.asarray(w) for w in (*weights.trainable, *weights.non_trainable)]


def run_rounds(engine, client_datasets, rounds=1):
    """Runs rounds on the same clients; gives the last output."""
    state = engine.initialize()
    for _ in range(rounds):
        output = engine.run_round(state, client_datasets)
        state = output.state
    return output


def words_tokenizer(words):
    """A fast tokenizer of whole words, with BERT's special tokens."""
    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    bare = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate((*names, *words))}, unk_token="[UNK]")
    )
    bare.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    bare.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), names))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bare, **special)
