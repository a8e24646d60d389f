"""Labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.core.errors import UserError
from tff_tx.datasets.encoders.encoder import NUMBER, Encoder, LabelIndex


class ImageClassificationEncoder(Encoder):
    """One image and one label a record.

    Examples: `pixel_values` float32 [C, H, W], in [0, 1] before `mean` and `std`; `label` int32 [].
    Images come as [H, W], [H, W, C], [C, H, W] or flat in the order [H, W, C], as integers 0..255 or floats 0..1.

    Args:
      label_names: The labels in their order.
      image_shape: (C, H, W).
      mean: Subtracted from each channel, C numbers; none if None.
      std: Divides each channel, C numbers; none if None.
    """

    kind = "image_classification"
    columns = ("pixels", "label")

    def __init__(
        self,
        label_names: Sequence[str],
        image_shape: Sequence[int],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        self.image_shape = tuple(int(size) for size in image_shape)
        channels = self.image_shape[0]
        self._mean = np.asarray([0.0] * channels if mean is None else mean, np.float32)
        self._std = np.asarray([1.0] * channels if std is None else std, np.float32)
        settings = [list(self.image_shape), self._mean.tolist(), self._std.tolist()]
        pixels = tf.TensorSpec(self.image_shape, tf.float32)
        super().__init__(label_names, settings, pixel_values=pixels, label=NUMBER)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        label_of = LabelIndex(self.label_names)
        for row in rows.itertuples():
            pixels = self._scaled(self._channels_first(np.asarray(row.pixels), row), row)
            pixels = (pixels - self._mean[:, None, None]) / self._std[:, None, None]
            yield [{"pixel_values": pixels, "label": np.int32(label_of(row.label, row))}]

    def _channels_first(self, pixels: np.ndarray, row) -> np.ndarray:
        channels, height, width = self.image_shape
        last = (height, width, channels)
        if pixels.shape == self.image_shape:
            return pixels
        if channels == 1 and pixels.shape == (height, width):
            return pixels[np.newaxis]
        if pixels.shape == last or pixels.shape == (channels * height * width,):
            return pixels.reshape(last).transpose(2, 0, 1)
        raise UserError(
            f"{row.where}: the image has the shape {list(pixels.shape)} and the model takes "
            f"{list(self.image_shape)} (channels, height, width); use images of one size and that size."
        )

    @staticmethod
    def _scaled(pixels: np.ndarray, row) -> np.ndarray:
        top = 255 if np.issubdtype(pixels.dtype, np.integer) else 1
        if not (pixels.min() >= 0 and pixels.max() <= top):
            raise UserError(
                f"{row.where}: pixels must be integers in 0..255 or floats in 0..1, and these are "
                f"{pixels.dtype} from {pixels.min():g} to {pixels.max():g}; rescale them."
            )
        return pixels.astype(np.float32) / np.float32(top)
