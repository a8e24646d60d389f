"""Encoders of labelled images and table rows, and statistics of a table's columns that a federation has to agree on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.core.errors import UserError
from tff_tx.datasets.encoders.encoder import NUMBER, Encoder
from tff_tx.datasets.surveys import Features, channels_height_width

_ROUNDING = 1e-14
"""Share of a mean square below which a variance is that of rounding: float32, which the numbers are, tells no less."""


class ImageClassificationEncoder(Encoder):
    """One image and one label a record.

    Examples: `pixel_values` float32 [C, H, W], in [0, 1] without a processor; `label` int32 [].
    Images come as [H, W], [H, W, C], [C, H, W] or flat in the order [H, W, C], as integers 0..255 or floats 0..1.

    Args:
      label_names: The labels in their order.
      image_shape: (C, H, W) of the examples.
      processor: Makes examples of images of any size, see `tff_tx.models.ImageProcessor`; None: they have it already.
      converter: Likewise, in place of the processor, of those images alone that have another size or mode than
        examples; None: these are rejected.
    """

    kind = "image_classification"
    columns = ("pixels", "label")

    def __init__(
        self,
        label_names: Sequence[str],
        image_shape: Sequence[int],
        processor: Any = None,
        converter: Any = None,
    ):
        self.image_shape = tuple(int(size) for size in image_shape)
        self._processor, self._converter = processor, converter
        self._seen = self._converted = 0
        settings = [list(self.image_shape), None if processor is None else processor.to_json()]
        pixels = tf.TensorSpec(self.image_shape, tf.float32)
        super().__init__(label_names, settings, pixel_values=pixels, label=NUMBER)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        for row in rows.itertuples():
            label = np.int32(self.label_number(row.label, row))
            yield [{"pixel_values": self._pixel_values(np.asarray(row.pixels), row), "label": label}]

    def _pixel_values(self, pixels: np.ndarray, row) -> np.ndarray:
        top = 255 if np.issubdtype(pixels.dtype, np.integer) else 1
        if not (pixels.min() >= 0 and pixels.max() <= top):
            raise UserError(
                f"{row.where}: pixels must be integers in 0..255 or floats in 0..1, and these are "
                f"{pixels.dtype} from {pixels.min():g} to {pixels.max():g}; rescale them."
            )
        self._seen += 1
        if self._processor is None and (same := self._of_model_shape(pixels, row)) is not None:
            return same.astype(np.float32) / np.float32(top)
        self._converted += self._processor is None
        found = (self._processor or self._converter)(channels_first(pixels))
        if found.shape != self.image_shape:
            raise UserError(
                f"{row.where}: the checkpoint's image processor makes {list(found.shape)} (channels, height, width) "
                f"of an image of the shape {list(pixels.shape)}, and {list(self.image_shape)} of square ones: cut it."
            )
        return found

    def notes(self):
        """How many images had another size or mode than the model takes."""
        if not self._converted:
            return []
        shape = "x".join(map(str, self.image_shape))
        return [
            f"{self._converted:,} of {self._seen:,} images have another size or mode than the model takes, and are "
            f"brought to {shape} (channels, height, width)."
        ]

    def _of_model_shape(self, pixels: np.ndarray, row) -> np.ndarray | None:
        found = _arranged(pixels, self.image_shape)
        if found is not None or self._converter is not None:
            return found
        raise UserError(
            f"{row.where}: the image has the shape {list(pixels.shape)} and the model takes "
            f"{list(self.image_shape)} (channels, height, width); use images of one size and that size."
        )


def channels_first(pixels: np.ndarray) -> np.ndarray:
    """An image of any layout as [channels, height, width].

    Raises:
      UserError: If it is none.
    """
    return _arranged(pixels, channels_height_width(pixels.shape))


def _arranged(pixels, shape):
    """As (channels, height, width); None if there are not as many pixels."""
    channels, height, width = shape
    last = (height, width, channels)
    if pixels.shape == tuple(shape):
        return pixels
    if channels == 1 and pixels.shape == (height, width):
        return pixels[np.newaxis]
    if pixels.shape == last or pixels.shape == (channels * height * width,):
        return pixels.reshape(last).transpose(2, 0, 1)
    return None


class TabularClassificationEncoder(Encoder):
    """One row and one label a record.

    Examples: `numbers` float32 [numeric columns] as they stand in the data, `categories` int32 [categorical columns],
    1 more than the place of the value or 0 for an unknown one (either is missing if there are no such columns);
    `label` int32 [].

    Args:
      label_names: The labels in their order.
      columns: The table's.
    """

    kind = "tabular_classification"

    def __init__(self, label_names: Sequence[str], columns: Features):
        self._places = [{value: i for i, value in enumerate(values, start=1)} for values in columns.categories]
        features = {}
        if columns.numeric:
            features["numbers"] = tf.TensorSpec([len(columns.numeric)], tf.float32)
        if columns.categorical:
            features["categories"] = tf.TensorSpec([len(columns.categorical)], tf.int32)
        self.columns = (*features, "label")
        settings = [list(columns.numeric), list(columns.categorical), columns.categories]
        super().__init__(label_names, settings, **features, label=NUMBER)

    def inputs(self, rows: pd.DataFrame) -> list[dict]:
        """The examples of records without their labels."""
        return [
            {
                name: np.asarray(row.numbers, np.float32) if name == "numbers" else self._numbered(row.categories)
                for name in self.columns
                if name != "label"
            }
            for row in rows.itertuples()
        ]

    def _numbered(self, values):
        return np.asarray([places.get(value, 0) for places, value in zip(self._places, values)], np.int32)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        for example, row in zip(self.inputs(rows), rows.itertuples()):
            yield [{**example, "label": np.int32(self.label_number(row.label, row))}]


def federated_mean_and_deviation(clients, name: str = "numbers") -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column over all examples of all clients that have a value in it, no NaN.

    As a federation computes them: a client gives three sums over its values, their number, the values and their
    squares; the server adds these up and sees nothing else (with secure aggregation not even a single client's). The
    sums are exact, so they are outside of any differential privacy of the training that follows.

    Args:
      clients: A ClientData, with `name` a feature, float [columns].
      name: Of the feature.

    Returns:
      (mean, standard deviation), float64 [columns] each; the deviation is that of the population, and 0 of a column
      with one value.
    """
    number, total, squares = 0, 0.0, 0.0
    for client_id in clients.client_ids:
        their_number, their_total, their_squares = _sums(clients.create_tf_dataset_for_client(client_id), name)
        number, total, squares = number + their_number, total + their_total, squares + their_squares
    number = np.maximum(number, 1)
    mean, square = total / number, squares / number
    variance = square - mean**2
    return mean, np.sqrt(np.where(variance > _ROUNDING * square, variance, 0.0))


def _sums(examples: tf.data.Dataset, name: str) -> tuple:
    """What a client gives away."""
    values = np.stack([example[name] for example in examples.as_numpy_iterator()]).astype(np.float64)
    return np.sum(~np.isnan(values), 0), np.nansum(values, 0), np.nansum(np.square(values), 0)


def federated_class_counts(clients, number: int) -> np.ndarray:
    """How many examples, or words, each of so many classes has: a sum over clients, of which each gives its counts.

    The sums are exact, so they are outside of any differential privacy of the training that follows.

    Args:
      clients: A ClientData, with `label` or `labels` a feature, int32; below 0 there is none.
      number: Of classes.

    Returns:
      int64 [number].
    """
    name = next(name for name in ("label", "labels") if name in clients.element_type_structure)
    total = np.zeros(number, np.int64)
    for client_id in clients.client_ids:
        for example in clients.create_tf_dataset_for_client(client_id).as_numpy_iterator():
            labels = np.ravel(example[name])
            total += np.bincount(labels[labels >= 0], minlength=number)
    return total
