"""Tiny random Transformers, one of each kind the adapter promises, with inputs to run them on."""

from __future__ import annotations

import collections
import dataclasses
import functools
from typing import Any, Callable

import numpy as np
import pytest
import tensorflow as tf
import transformers

from tff_tx import models

VOCABULARY = 60
CLASSES = 5
TAGS = ("O", "B-Disease", "I-Disease", "B-Drug", "I-Drug")
IMAGE = 16

_IDS = tf.TensorSpec([None, None], tf.int32)
_SEED = tf.TensorSpec([2], tf.int64)


@dataclasses.dataclass(frozen=True)
class Member:
    """One model of the zoo.

    Attributes:
      name: The architecture.
      build: Makes the Keras model anew, with the weights of a fixed seed.
      objective: What it is trained on.
      inputs: Names of its token inputs; empty for images.
    """

    name: str
    build: Callable[[], Any]
    objective: models.Objective
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")

    @property
    def is_text(self) -> bool:
        return bool(self.inputs)

    def x_spec(self, seeded: bool = True) -> collections.OrderedDict:
        if self.is_text:
            spec = collections.OrderedDict((name, _IDS) for name in self.inputs)
        else:
            pixels = tf.TensorSpec([None, 3, IMAGE, IMAGE], tf.float32)
            spec = collections.OrderedDict(pixel_values=pixels)
        if seeded:
            spec[models.SEED] = _SEED
        return spec

    def sample(self, batch: int = 3, length: int = 7, padding: int = 0, seed: Any = (1, 2)):
        """Inputs and labels of `batch` examples, text of `length` tokens and `padding` more.

        The same batch and length give the same examples, whatever the padding.
        """
        generator = np.random.default_rng([batch, length])
        x = collections.OrderedDict()
        if self.is_text:
            # Ids 0 to 3 are left to padding and its like, which some models look for in the ids.
            for name in self.inputs:
                if name.endswith("input_ids"):
                    x[name] = _padded(generator.integers(4, VOCABULARY, (batch, length)), padding, 1)
                elif name.endswith("attention_mask"):
                    x[name] = _padded(np.ones((batch, length)), padding, 0)
                else:
                    x[name] = _padded(generator.integers(0, 2, (batch, length)), padding, 0)
        else:
            x["pixel_values"] = tf.constant(generator.standard_normal((batch, 3, IMAGE, IMAGE)), tf.float32)
        if seed is not None:
            x[models.SEED] = tf.constant(seed, tf.int64)
        if self.objective.label_spec.shape.rank == 1:
            return x, tf.constant(generator.integers(0, CLASSES, batch), tf.int32)
        labels = generator.integers(0, CLASSES, (batch, length))
        labels[:, 1] = models.IGNORED
        return x, _padded(labels, padding, models.IGNORED)

    def shallow(self) -> Member:
        """The same of one layer, a T5 of one in each half, which takes half as long to trace."""
        return dataclasses.replace(self, build=functools.partial(self.build, layers=1))

    def functional(self, model: Any = None, seeded: bool = True) -> models.TransformerModel:
        model = self.build() if model is None else model
        return models.functional_model(model, self.objective, self.x_spec(seeded))


def _padded(values, padding, fill):
    return tf.constant(np.pad(values, [(0, 0), (0, padding)], constant_values=fill), tf.int32)


def _t5(layers=2):
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=2,
        dropout_rate=0.1,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
        pad_token_id=1,
    )
    tf.keras.utils.set_random_seed(0)
    model = transformers.TFT5ForConditionalGeneration(config)
    model.build_in_name_scope()
    return model


_ENCODER = dict(
    vocab_size=VOCABULARY,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    pad_token_id=1,
)
_WITH_TYPES = ("input_ids", "attention_mask", "token_type_ids")


def _member(auto_class, architecture, objective, config, **fields):
    if auto_class.endswith("Classification"):
        config = {**config, "num_labels": CLASSES}
    return Member(architecture, functools.partial(_build, auto_class, architecture, config), objective, **fields)


def _build(auto_class, architecture, config, layers=None):
    numbers = config.keys() & {"num_hidden_layers", "n_layers", "n_layer"} if layers else ()
    return models.from_config(auto_class, architecture, {**config, **dict.fromkeys(numbers, layers)})


MEMBERS = (
    _member("TFAutoModelForMaskedLM", "bert", models.language_modeling("masked_lm"), _ENCODER, inputs=_WITH_TYPES),
    _member(
        "TFAutoModelForSequenceClassification",
        "distilbert",
        models.classification(),
        dict(
            vocab_size=VOCABULARY,
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=32,
            max_position_embeddings=32,
            dropout=0.1,
            attention_dropout=0.1,
            seq_classif_dropout=0.1,
            pad_token_id=1,
        ),
    ),
    _member(
        "TFAutoModelForTokenClassification",
        "roberta",
        models.token_classification(TAGS),
        {**_ENCODER, "classifier_dropout": 0.1},
    ),
    _member(
        "TFAutoModelForSequenceClassification",
        "albert",
        models.classification(),
        {**_ENCODER, "embedding_size": 8, "classifier_dropout_prob": 0.1},
        inputs=_WITH_TYPES,
    ),
    _member(
        "TFAutoModelForTokenClassification",
        "electra",
        models.token_classification(TAGS),
        {**_ENCODER, "embedding_size": 8, "classifier_dropout": 0.1},
    ),
    _member(
        "TFAutoModelForSequenceClassification",
        "deberta-v2",
        models.classification(),
        {
            **_ENCODER,
            "relative_attention": True,
            "position_buckets": 8,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "pooler_dropout": 0.1,
        },
    ),
    _member(
        "TFAutoModelForCausalLM",
        "gpt2",
        models.language_modeling("causal_lm"),
        dict(
            vocab_size=VOCABULARY,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=32,
            resid_pdrop=0.1,
            embd_pdrop=0.1,
            attn_pdrop=0.1,
        ),
    ),
    _member(
        "TFAutoModelForCausalLM",
        "opt",
        models.language_modeling("causal_lm"),
        dict(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=32,
            word_embed_proj_dim=16,
            max_position_embeddings=32,
            dropout=0.1,
            attention_dropout=0.1,
        ),
    ),
    Member(
        "t5",
        _t5,
        models.sequence_to_sequence(),
        ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"),
    ),
    _member(
        "TFAutoModelForImageClassification",
        "vit",
        models.classification("image_classification"),
        dict(
            image_size=IMAGE,
            patch_size=8,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
        ),
        inputs=(),
    ),
    _member(
        "TFAutoModelForImageClassification",
        "swin",
        models.classification("image_classification"),
        dict(
            image_size=IMAGE,
            patch_size=2,
            embed_dim=8,
            depths=[2],
            num_heads=[2],
            window_size=4,
            # Any other rate fails: Hugging Face passes a layer's name as noise_shape.
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.1,
            drop_path_rate=0.1,
        ),
        inputs=(),
    ),
)
"""Between them each head: masked, causal and seq2seq language models, three kinds of classifier."""

NAMES = tuple(member.name for member in MEMBERS)
BY_NAME = {member.name: member for member in MEMBERS}
LONG_TO_TRACE = ("albert", "deberta-v2", "electra", "opt", "roberta", "swin", "t5")
ALL = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG_TO_TRACE else []) for name in NAMES]
"""All members as parameters of tests, those that take long to trace for the slow ones."""
