"""Activation cache: the outputs of a model's frozen part, stored once per client in place of its examples."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import glob
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx import datasets, models, runtime
from tff_tx.core import files
from tff_tx.core.errors import UserError, reason, setting
from tff_tx.tasks.feature_data import LABEL, FeatureClientData, FeatureRecipe, client_path, element_spec_of
from tff_tx.tasks.federated_task import FederatedTask
from tff_tx.tasks.preprocessing import Preprocessing

_MASK = "attention_mask"
_SOME = 10
_FINGERPRINT = "fingerprint.json"
_PAGE, _PAGES_OF_A_FILE, _BYTES_OF_A_ROW = 4096, 8, 80


class FeatureCache:
    """Features of clients within a budget of bytes; least recently used clients are evicted first.

    A client has one file, which is there as a whole or not at all. Files are of one model and one division of the data:
    for others the directory is emptied.

    Attributes:
      task: The task with features for inputs; `prepare` must be called before clients are read.

    Args:
      task: Whose model was made with `frozen_dropout=False`.
      directory: Where files go, which should be for nothing else.
      max_bytes: They take at most.
      threads: Clients whose features are computed at the same time.

    Raises:
      UserError: If nothing can be cached: inputs change from epoch to epoch, or the model has no part worth it.
    """

    def __init__(self, task: FederatedTask, directory: str, max_bytes: int, threads: int = 1):
        if "activation_cache" not in task.definition.capabilities:
            raise UserError(
                f"{setting('model.cache_features')}: the inputs of {setting('task.kind')}={task.kind} are drawn anew "
                f"in every epoch, so that there is "
                "nothing to cache: drop the flag."
            )
        self._extractor = models.FeatureExtractor(task.model)
        self._whole, self._directory, self._max_bytes = task, os.path.abspath(directory), max_bytes
        self._threads, self._checked = threads, set()
        self._sizes: dict[tuple[str, str], int] = {}
        self._spec = element_spec_of(self._extractor, task.model)
        self._clients = {s: c for s in ("train", "validation", "test") if (c := getattr(task, s)) is not None}
        recipe = FeatureRecipe(self._extractor, self._spec, task.preprocessing.pads)
        cached = {s: FeatureClientData(c, self._directory, s, self._spec) for s, c in self._clients.items()}
        preprocessing = Preprocessing(task.kind, self._spec, task.tokenizer, task.preprocessing.ranks, recipe=recipe)
        self.task = dataclasses.replace(task, model=self._extractor.model, preprocessing=preprocessing, **cached)

    @functools.cached_property
    def _files(self) -> collections.OrderedDict:
        """Bytes by path of the files there are, least recently used first; makes the directory."""
        path, fingerprint = os.path.join(self._directory, _FINGERPRINT), self._fingerprint()
        if _read(path) != fingerprint:
            shutil.rmtree(self._directory, ignore_errors=True)
        files.make_private(self._directory)
        for split in self._clients:
            os.makedirs(os.path.join(self._directory, split), exist_ok=True)
        files.write_json(path, fingerprint)
        for leftover in glob.glob(os.path.join(glob.escape(self._directory), "*", "*.tmp*")):
            os.remove(leftover)
        there = glob.glob(os.path.join(glob.escape(self._directory), "*", "*.sqlite"))
        return collections.OrderedDict((f, os.path.getsize(f)) for f in sorted(there, key=os.path.getmtime))

    def _fingerprint(self) -> str:
        data = {split: clients.fingerprint for split, clients in self._clients.items()}
        return hashlib.sha256(repr((self._whole.model.fingerprint, self._spec, data)).encode()).hexdigest()

    def mean_bytes(self, split: str = "train") -> float:
        """Approximate bytes of the features of a client of a split: a mean over some of them."""
        ids = self._clients[split].client_ids
        some = ids[:: math.ceil(len(ids) / _SOME)]
        return sum(self.bytes_of_client(client_id, split) for client_id in some) / len(some)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(self._files.values())

    def prepare(
        self,
        client_ids: Sequence[str],
        split: str = "train",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Ensures that the features of clients are there, and stay until the next call.

        A client whose examples cannot be read has none, and will fail when it is to train.

        Args:
          client_ids: Of the clients.
          split: Which clients: "train", "validation" or "test".
          on_progress: Called with the number of clients done and the number to do.

        Raises:
          UserError: If those of these clients alone are more than the budget.
        """
        paths = {client_path(self._directory, split, c): c for c in client_ids}
        for path in filter(os.path.exists, paths.keys() - self._files.keys()):  # see `take_features`
            self._files[path] = os.path.getsize(path)
        for path in paths.keys() & self._files.keys():
            if not os.path.exists(path):  # another cache of this directory, as an arm of a study has one, evicted it
                del self._files[path]
            elif path not in self._checked and not datasets.is_whole(path):
                logging.warning("%s is damaged: its features are computed again", path)
                del self._files[path]
        self._checked.update(paths)
        missing = {path: c for path, c in paths.items() if path not in self._files}
        for path in paths.keys() - missing.keys():
            os.utime(path)
            self._files.move_to_end(path)
        self._evict(paths, sum(self.bytes_of_client(c, split) for c in missing.values()))
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            written = pool.map(functools.partial(self._write, split), missing.items())
            for done, (path, size) in enumerate(zip(missing, written), start=1):
                if size is not None:
                    self._files[path] = size
                if on_progress is not None:
                    on_progress(done, len(missing))
        self._evict(paths, 0)

    def _evict(self, retained: Mapping[str, str], more: int) -> None:
        needed = more + sum(self._files.get(path, 0) for path in retained)
        if needed > self._max_bytes:
            raise UserError(
                f"{setting('model.feature_cache_bytes')}={self._max_bytes} is less than the {needed:,} bytes that "
                f"the features of the "
                f"{len(retained)} clients of one round or evaluation take: raise it and give the same command again, "
                f"lower {setting('cohort.clients_per_round')}, or train without {setting('model.cache_features')}."
            )
        for path in [p for p in self._files if p not in retained]:
            if self.bytes + more <= self._max_bytes:
                return
            files.remove(path)
            del self._files[path]

    def bytes_of_client(self, client_id: str, split: str = "train") -> int:
        """Approximate bytes of a client's features on disk; reads its examples once if they differ in length."""
        if (split, client_id) not in self._sizes:
            self._sizes[split, client_id] = self._bytes_of(client_id, split)
        return self._sizes[split, client_id]

    def _bytes_of(self, client_id, split):
        clients = self._clients[split]
        rows = clients.sizes()[client_id]
        fixed = sum(_num_bytes(spec) for spec in self._spec.values() if spec.shape.is_fully_defined())
        token = sum(_num_bytes(spec) for spec in self._spec.values() if not spec.shape.is_fully_defined())
        try:
            tokens = sum(self._lengths(client_id, split)) if token else 0
        except runtime.UnreadableClient:
            return 0
        row = _BYTES_OF_A_ROW + 2 * len(client_id.encode()) + fixed + token * tokens / max(rows, 1)
        # A page has whole rows, or a row whole pages.
        pages = rows * math.ceil(row / _PAGE) if row > _PAGE / 2 else math.ceil(rows / (_PAGE // row))
        return _PAGE * (pages + _PAGES_OF_A_FILE + rows // 50)

    def _lengths(self, client_id, split):
        for x, _ in self._readers[split](client_id):
            yield int(tf.reduce_sum(x[_MASK])) if _MASK in x else int(np.prod(tf.shape(next(iter(x.values())))[:2]))

    @functools.cached_property
    def _readers(self) -> dict[str, Callable[[str], Any]]:
        """By split, from a client id to its batches of the whole task."""
        return {s: runtime.ClientReader(self._whole.eval_batches_fn(c)) for s, c in self._clients.items()}

    @functools.cached_property
    def _extract(self):
        weights = tf.nest.map_structure(tf.convert_to_tensor, self._whole.model.initial_weights)
        specs = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), weights)
        x_spec, _ = self._whole.model.input_spec
        extract = runtime.step_function(self._extractor, specs, x_spec, internal=True)
        return lambda x: extract(weights, x)

    def _write(self, split: str, item: tuple[str, str]) -> int | None:
        """Writes a client's file and gives its size; None if the client's examples cannot be read."""
        path, client_id = item
        stored = collections.OrderedDict((name, tf.TensorSpec([], tf.string)) for name in self._spec)
        try:
            with datasets.StoreWriter(path, stored, {}, chosen_by="run.directory") as writer:
                for x, y in self._readers[split](client_id):
                    for example in self._examples(x, y):
                        writer.add(split, client_id, example)
        except (runtime.UnreadableClient, tf.errors.OpError) as error:
            logging.warning("no features of client %s: %s", client_id, reason(error))
            return None
        return os.path.getsize(path)

    def _examples(self, x, y):
        """Yields what is stored of each example of a batch: the bytes of arrays of its own length."""
        values = {**x, **self._extract(x), LABEL: y}
        batch = [(name, values[name].numpy(), spec.shape.is_fully_defined()) for name, spec in self._spec.items()]
        lengths = x[_MASK].numpy().sum(1) if _MASK in x else [None] * len(y)
        for i, length in enumerate(lengths):
            example = {name: value[i] if is_whole else value[i][:length] for name, value, is_whole in batch}
            # As objects, because NumPy's own strings would lose zeros at the end.
            yield {name: np.array([value.tobytes()], object) for name, value in example.items()}


def take_features(directory: str, others: Sequence[str]) -> None:
    """Links the files of other caches of the same model and data into the directory of a cache, which may be open.

    A new directory gets those of the largest cache.
    """
    for other in sorted(others, key=lambda path: -len(glob.glob(os.path.join(glob.escape(path), "*", "*.sqlite")))):
        theirs, own = (_read(os.path.join(path, _FINGERPRINT)) for path in (other, directory))
        if own is None:  # its files, if it has some, may be of any model
            shutil.rmtree(directory, ignore_errors=True)
        if theirs is not None and own in (None, theirs):
            files.link_directory(other, directory)


def _num_bytes(spec) -> int:
    """Bytes of a tensor, or where its first dimension is a length, of a step of it."""
    return spec.dtype.size * int(np.prod([d for d in spec.shape if d is not None], dtype=np.int64))


def _read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None
