"""From a client's stored examples to the batches its model is trained on.

Everything random here (order, masks, the seeds of dropout) is a function of one seed a client and round, computed
inside the graph, so that what a client computes does not depend on where or when it runs.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_tx import runtime
from tff_tx.core.errors import UserError
from tff_tx.models import IGNORED, RANK, SEED
from tff_tx.tasks import pairs, recipes, tokens
from tff_tx.tasks.bucketing import WINDOW, bucketed

_PADDING = tokens.PADDING


class _TextClassification:
    """One label a text: `input_ids` are padded to the longest of the batch."""

    pads = {"input_ids": _PADDING, "label": IGNORED}
    lengthwise = ("input_ids",)

    def __init__(self, tokenizer, num_labels=0, config=None):
        del num_labels, config
        self.pad_id = tokenizer.pad_token_id or 0

    def inputs(self, element_spec):
        del element_spec
        return collections.OrderedDict(attention_mask=tokens.IDS, input_ids=tokens.IDS)

    def batch(self, features, seed):
        del seed
        return self._tokens(features["input_ids"]), features["label"]

    def _tokens(self, ids):
        return tokens.masked(ids, self.pad_id)


class _TokenClassification(_TextClassification):
    """One label a token."""

    pads = {"input_ids": _PADDING, "labels": IGNORED}
    lengthwise = ("input_ids", "labels")

    def batch(self, features, seed):
        del seed
        return self._tokens(features["input_ids"]), features["labels"]


class _CausalLM(_TextClassification):
    """The label of a token is the next one."""

    pads = {"input_ids": _PADDING}

    def batch(self, features, seed):
        del seed
        ids, following = features["input_ids"][:, :-1], features["input_ids"][:, 1:]
        labels = tf.where(tf.equal(following, _PADDING), IGNORED, following)
        return self._tokens(ids), labels


class _MaskedLM(_TextClassification):
    """Masked language modeling as in BERT (Devlin et al. 2019, section 3.1).

    Each token but special ones is chosen with probability 0.15 and becomes the mask token (80 %),
    a random token (10 %) or stays (10 %); the labels are the chosen tokens as they were. Masks are
    fresh in every epoch and round.
    """

    pads = {"input_ids": _PADDING}

    def __init__(self, tokenizer, num_labels=0, config=None, rate=0.15):
        super().__init__(tokenizer, num_labels, config)
        self._rate, self._mask_id = rate, tokenizer.mask_token_id
        self._vocabulary = len(tokenizer)
        self._special_ids = np.array(sorted(set(tokenizer.all_special_ids)), np.int32)

    def batch(self, features, seed):
        x = self._tokens(features["input_ids"])
        ids = x["input_ids"]
        draws = tf.random.stateless_uniform([2, *tf.unstack(tf.shape(ids))], seed)
        random_ids = tf.random.stateless_uniform(tf.shape(ids), seed + 1, 0, self._vocabulary, tf.int32)
        special = tf.reduce_any(tf.equal(ids[..., tf.newaxis], self._special_ids), -1)
        chosen = (draws[0] < self._rate) & ~special & tf.equal(x["attention_mask"], 1)
        x["input_ids"] = tf.where(
            chosen & (draws[1] < 0.8),
            self._mask_id,
            tf.where(chosen & (draws[1] >= 0.9), random_ids, ids),
        )
        return x, tf.where(chosen, ids, IGNORED)


class _ImageClassification:
    """One label an image, float32 [channels, height, width]."""

    pads = {"pixel_values": 0.0, "label": IGNORED}

    def __init__(self, tokenizer, num_labels, config):
        del tokenizer, num_labels, config

    def inputs(self, element_spec):
        shape = element_spec["pixel_values"].shape
        return collections.OrderedDict(pixel_values=tf.TensorSpec([None, *shape], tf.float32))

    def batch(self, features, seed):
        del seed
        return collections.OrderedDict(pixel_values=features["pixel_values"]), features["label"]


_RECIPES = {
    "sequence_classification": _TextClassification,
    "token_classification": _TokenClassification,
    "masked_lm": _MaskedLM,
    "causal_lm": _CausalLM,
    "sequence_to_sequence": pairs.SequenceToSequence,
    "question_answering": pairs.QuestionAnswering,
    "image_classification": _ImageClassification,
    "forecasting": recipes.Forecasting,
    "next_item": recipes.NextItem,
    "tabular_classification": recipes.Table,
}

KINDS = tuple(_RECIPES)
"""The tasks."""


@dataclasses.dataclass(frozen=True)
class LocalTraining:
    """How much a client computes a round.

    Attributes:
      batch_size: Examples a batch; the last of an epoch may be smaller.
      epochs: Passes over the client's examples.
      steps: If not None, so many full batches instead, drawn from as many passes as it takes.
      max_examples: If not None, only so many of the client's examples, chosen anew each pass.
      shuffle_buffer: Examples held in memory to shuffle.
      bucket_by_length: Whether batches are made of examples that are about equally long.
    """

    batch_size: int = 16
    epochs: int = 1
    steps: int | None = None
    max_examples: int | None = None
    shuffle_buffer: int = 1000
    bucket_by_length: bool = False

    def num_examples(self, available: int) -> int:
        """How many examples a client with so many trains on in a round, counted as often as it does."""
        if self.steps is not None:
            return self.steps * self.batch_size
        return self.epochs * min(available, self.max_examples or available)


class Preprocessing:
    """Batches (x, y) for one task, with the seed of dropout as a part of x.

    Attributes:
      x_spec: `OrderedDict` of `tf.TensorSpec` of a batch of inputs.
      ranks: From which clients have theirs; empty if they all have the same.
      reads_examples: Whether batches are made of examples as `tff_tx.datasets` stores them.
    """

    def __init__(
        self,
        kind: str,
        element_spec,
        tokenizer=None,
        ranks: Sequence[int] = (),
        num_labels: int = 0,
        config=None,
        recipe=None,
    ):
        """Makes the preprocessing.

        Args:
          kind: One of `KINDS`.
          element_spec: Spec of a stored example, as `tff_tx.datasets` writes it for this kind.
          tokenizer: Hugging Face tokenizer of text tasks.
          ranks: Of the clients' adapters, see `tff_tx.models.Lora`; if they differ, a client's is a part of x.
          num_labels: How many classes or items there are.
          config: The model's configuration, which decides some inputs of "sequence_to_sequence" and
            "question_answering".
          recipe: What makes batches in place of the kind's own.
        """
        self._kind = kind
        self._recipe = recipe or _RECIPES[kind](tokenizer, num_labels, config)
        self.reads_examples = recipe is None
        self.ranks = tuple(ranks) if len(set(ranks)) > 1 else ()
        self.x_spec = self.x_spec_of(element_spec)

    def x_spec_of(self, element_spec) -> collections.OrderedDict:
        """`x_spec` for examples of another spec."""
        x_spec = self._recipe.inputs(element_spec)
        x_spec[SEED] = tf.TensorSpec([2], tf.int64)
        if self.ranks:
            x_spec[RANK] = tf.TensorSpec([], tf.int32)
        return x_spec

    @property
    def pads(self) -> dict[str, int]:
        """What the tokens of x have in padding, by name; empty where there are none."""
        return {"input_ids": self._recipe.pad_id} if hasattr(self._recipe, "pad_id") else {}

    def rank_of(self, client_id):
        """A client's rank, an int32 scalar that its id decides; None if all have the same."""
        if not self.ranks:
            return None
        return tf.gather(self.ranks, tf.strings.to_hash_bucket_fast(client_id, len(self.ranks)))

    def check(self, local: LocalTraining) -> None:
        """Checks that clients can train so.

        Raises:
          UserError: If examples that are all of one length are to be sorted by it.
        """
        if local.bucket_by_length and not hasattr(self._recipe, "lengthwise"):
            raise UserError(
                f"--bucket_by_length sorts texts or histories by their length, and all examples of --task={self._kind} "
                "have the same: drop it."
            )

    def train(self, examples: tf.data.Dataset, seed, local: LocalTraining, rank=None) -> tf.data.Dataset:
        """One client's batches for one round.

        Args:
          examples: The client's stored examples.
          seed: int64 [2], different for every client and round.
          local: How many batches of what size.
          rank: The client's, of `rank_of`.
        """

        def one_pass(epoch):
            # Else the order depends on the program's global seed too, and a global seed of 0 ends in an error.
            tf.compat.v1.get_default_graph().seed = None
            epoch_seed = tf.random.experimental.stateless_fold_in(seed, epoch)
            # Hashed, as the parts of a folded seed are not: its first is the same for every epoch.
            order = tf.random.stateless_uniform([], epoch_seed, None, None, tf.int64)
            shuffled = examples.shuffle(local.shuffle_buffer, seed=order, reshuffle_each_iteration=False)
            return shuffled if local.max_examples is None else shuffled.take(local.max_examples)

        def batched(examples, window, number):
            if not local.bucket_by_length:
                return self._padded(examples, local.batch_size)
            # Negative, as epochs and steps count from 0.
            order_seed = tf.random.experimental.stateless_fold_in(seed, -1 - number)
            pads, lengthwise = self._pads(examples), self._recipe.lengthwise
            return bucketed(examples, local.batch_size, pads, lengthwise, window, order_seed)

        if local.steps is None:
            batches = tf.data.Dataset.range(local.epochs).flat_map(
                lambda epoch: batched(one_pass(epoch), WINDOW, epoch)
            )
        else:
            endless = tf.data.Dataset.range(np.iinfo(np.int64).max).flat_map(one_pass)
            # With a larger window the batches would be of other examples than without.
            whole = batched(endless, min(WINDOW, local.steps), tf.constant(0, tf.int64))
            batches = whole.take(local.steps)
        return self._finish(batches, seed, rank, self._recipe.batch)

    def evaluate(self, examples: tf.data.Dataset, seed, batch_size: int) -> tf.data.Dataset:
        """One client's batches for evaluation, in stored order; the same seed gives the same masks and draws."""
        rank = max(self.ranks) if self.ranks else None
        make = getattr(self._recipe, "evaluation_batch", self._recipe.batch)
        return self._finish(self._padded(examples, batch_size), seed, rank, make)

    def _padded(self, examples, batch_size):
        return examples.padded_batch(batch_size, padding_values=self._pads(examples))

    def _pads(self, examples):
        return collections.OrderedDict(
            (name, tf.constant(self._recipe.pads[name], spec.dtype)) for name, spec in examples.element_spec.items()
        )

    def _finish(self, batches, seed, rank, make):
        def finish(step, features):
            batch_seed = tf.random.experimental.stateless_fold_in(seed, step)
            x, y = make(features, batch_seed)
            # Dropout's own key, or it would draw the numbers that chose the masks.
            x[SEED] = tf.random.experimental.stateless_fold_in(batch_seed, tf.constant(1, tf.int64))
            if rank is not None:
                x[RANK] = tf.cast(rank, tf.int32)
            return x, y

        return runtime.untuned(runtime.numbered(batches).map(finish))
