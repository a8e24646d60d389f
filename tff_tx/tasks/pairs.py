"""From stored examples of texts with targets, and of questions with contexts, to batches; see `preprocessing`."""

from __future__ import annotations

import collections

import tensorflow as tf

from tff_tx.core.errors import UserError
from tff_tx.models import IGNORED, has_segments
from tff_tx.tasks import tokens


class SequenceToSequence:
    """A text and its target: the decoder reads the target one token late, and its label is the token to come.

    Its input begins with the token that the model starts decoding with (Raffel et al. 2020, section 2.1; so the code of
    T5 and of its like).
    """

    pads = {"input_ids": tokens.PADDING, "labels": IGNORED}
    lengthwise = ("input_ids",)

    def __init__(self, tokenizer, num_labels, config):
        del num_labels
        self.pad_id, self._start_id = tokenizer.pad_token_id or 0, config.decoder_start_token_id
        if self._start_id is None:
            raise UserError(
                f"the {config.model_type} model has no decoder_start_token_id, with which its targets would begin: set "
                'it in --model_config, such as {"decoder_start_token_id": 0}.'
            )

    def inputs(self, element_spec):
        del element_spec
        names = ("attention_mask", "decoder_attention_mask", "decoder_input_ids", "input_ids")
        return collections.OrderedDict((name, tokens.IDS) for name in names)

    def batch(self, features, seed):
        del seed
        x, labels = tokens.masked(features["input_ids"], self.pad_id), features["labels"]
        late = tf.pad(labels[:, :-1], [[0, 0], [1, 0]], constant_values=self._start_id)
        decoder = tokens.masked(tf.where(tf.equal(late, IGNORED), tokens.PADDING, late), self.pad_id)
        x["decoder_input_ids"], x["decoder_attention_mask"] = decoder["input_ids"], decoder["attention_mask"]
        return collections.OrderedDict(sorted(x.items())), labels


class QuestionAnswering:
    """A question with its context; the labels of a token are whether the answer starts, and whether it ends there."""

    pads = {"input_ids": tokens.PADDING, "token_type_ids": 0, "starts": IGNORED, "ends": IGNORED}
    lengthwise = tuple(pads)

    def __init__(self, tokenizer, num_labels, config):
        del num_labels
        self.pad_id, self._has_segments = tokenizer.pad_token_id or 0, has_segments(config)

    def inputs(self, element_spec):
        del element_spec
        names = ("attention_mask", "input_ids", *(("token_type_ids",) if self._has_segments else ()))
        return collections.OrderedDict((name, tokens.IDS) for name in names)

    def batch(self, features, seed):
        del seed
        x = tokens.masked(features["input_ids"], self.pad_id)
        if self._has_segments:
            x["token_type_ids"] = features["token_type_ids"]
        return x, tf.stack([features["starts"], features["ends"]], axis=-1)
