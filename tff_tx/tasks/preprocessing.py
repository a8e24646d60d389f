"""From a client's stored examples to the batches its model is trained on.

Everything random here (order, masks, the seeds of dropout) is a function of one seed a client and round, computed
inside the graph, so that what a client computes does not depend on where or when it runs. AutoGraph is off, also for
recipes: to convert what has no control flow of tensors took a second of each start.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Callable

import numpy as np
import tensorflow as tf

from tff_tx import runtime
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.models import RANK, SEED
from tff_tx.tasks.bucketing import WINDOW, bucketed
from tff_tx.tasks.kind import task_kind
from tff_tx.tasks.recipe import Recipe

SHUFFLE_BUFFER = 1000
"""Examples among which the next one is drawn."""


class Preprocessing:
    """Batches (x, y) for one task, with the seed of dropout as a part of x.

    Attributes:
      x_spec: `OrderedDict` of `tf.TensorSpec` of a batch of inputs.
      ranks: Ranks of the clients' adapters; empty if they all have the same.
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
        recipe: Recipe | None = None,
    ):
        """Makes the preprocessing.

        Args:
          kind: The task's name.
          element_spec: Spec of a stored example, as `tff_tx.datasets` writes it for this kind.
          tokenizer: Hugging Face tokenizer of text tasks.
          ranks: Of the clients' adapters, see `tff_tx.models.Lora`; if they differ, a client's is a part of x.
          num_labels: How many classes or items there are.
          config: The model's configuration, which decides some inputs of some tasks.
          recipe: Makes batches in place of the task's own.
        """
        self._kind = kind
        self._recipe = recipe or task_kind(kind).recipe(tokenizer, num_labels, config)
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
        """By input of token ids, the padding token; empty where there are none."""
        return {} if self._recipe.pad_id is None else {"input_ids": self._recipe.pad_id}

    def rank_of(self, client_id):
        """A client's rank, an int32 scalar that its id decides; None if all have the same."""
        if not self.ranks:
            return None
        return tf.gather(self.ranks, tf.strings.to_hash_bucket_fast(client_id, len(self.ranks)))

    def check(self, local: ClientConfig) -> None:
        """Checks that the examples suit how clients train.

        Raises:
          UserError: If examples of one length are to be bucketed by it.
        """
        if local.bucket_by_length and not self._recipe.lengthwise:
            raise UserError(
                f"{setting('client.bucket_by_length')} sorts texts or histories by their length, and all examples of "
                f"{setting('task.kind')}={self._kind} have the same: drop it."
            )

    @tf.autograph.experimental.do_not_convert
    def train(
        self,
        examples: Callable[[tf.Tensor], tf.data.Dataset],
        seed,
        local: ClientConfig,
        rank=None,
        shuffle_buffer: int = SHUFFLE_BUFFER,
    ) -> tf.data.Dataset:
        """One client's batches for one round.

        Args:
          examples: From the number of a pass, from 0, to the client's stored examples that it is over.
          seed: int64 [2], different for every client and round.
          local: How many batches of what size.
          rank: The client's, of `rank_of`.
          shuffle_buffer: Examples among which the next one is drawn.
        """

        def one_pass(epoch):
            # Else the order depends on the program's global seed too, and a global seed of 0 ends in an error.
            tf.compat.v1.get_default_graph().seed = None
            epoch_seed = tf.random.experimental.stateless_fold_in(seed, epoch)
            # Hashed, as the parts of a folded seed are not: its first is the same for every epoch.
            order = tf.random.stateless_uniform([], epoch_seed, None, None, tf.int64)
            return examples(epoch).shuffle(shuffle_buffer, seed=order, reshuffle_each_iteration=False)

        def batched(examples, window, number):
            if not local.bucket_by_length:
                return self._padded(examples, local.batch_size)
            # Negative, as epochs and steps count from 0.
            order_seed = tf.random.experimental.stateless_fold_in(seed, -1 - number)
            pads, lengthwise = self._pads(examples), self._recipe.lengthwise
            return bucketed(examples, local.batch_size, pads, lengthwise, window, order_seed)

        if local.steps is None:
            batches = tf.data.Dataset.range(local.num_epochs).flat_map(
                lambda epoch: batched(one_pass(epoch), WINDOW, epoch)
            )
        else:
            endless = tf.data.Dataset.range(np.iinfo(np.int64).max).flat_map(one_pass)
            # With a larger window the batches would be of other examples than without.
            whole = batched(endless, min(WINDOW, local.steps), tf.constant(0, tf.int64))
            batches = whole.take(local.steps)
        return self._finish(batches, seed, rank, self._recipe.batch)

    @tf.autograph.experimental.do_not_convert
    def evaluate(self, examples: tf.data.Dataset, seed, batch_size: int) -> tf.data.Dataset:
        """One client's batches for evaluation, in stored order; the same seed gives the same masks and draws."""
        rank = max(self.ranks) if self.ranks else None
        return self._finish(self._padded(examples, batch_size), seed, rank, self._recipe.evaluation_batch)

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
