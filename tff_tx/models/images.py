"""Image processors: from pictures of any size and number of channels to what a model takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import transformers
from PIL import Image

from tff_tx.core.errors import UserError, setting
from tff_tx.models.hugging_face import described_at, loadable, read_config


class ImageProcessor:
    """Resizes, rescales and normalizes pictures as a processor of transformers says.

    Args:
      processor: Such as `transformers.ViTImageProcessor`.
      channels: Of the model's images; pictures that have others are converted as Pillow does.

    Attributes:
      shape: (channels, height, width) of what becomes of a square picture.
    """

    def __init__(self, processor: Any, channels: int):
        self._processor, self._channels = processor, channels
        self.shape = self(np.zeros([channels, 8, 8], np.uint8)).shape

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pixel values of a picture.

        Args:
          pixels: [1, 3 or 4, height, width], integers 0..255 or floats 0..1.

        Returns:
          float32 [channels, height, width].
        """
        pixels, how = _with_channels(pixels, self._channels), {}
        size = getattr(self._processor, "size", None) or {}
        if pixels.shape[1:] == (size.get("height"), size.get("width")):
            how["do_resize"] = False  # which would round floats to bytes
        if not np.issubdtype(pixels.dtype, np.integer):
            if getattr(self._processor, "rescale_factor", None) == 1 / 255:
                how["do_rescale"] = False
            else:
                pixels = np.rint(pixels * 255)
        found = self._processor(pixels, input_data_format="channels_first", return_tensors="np", **how)
        return found["pixel_values"][0].astype(np.float32)

    def to_json(self) -> str:
        """All settings."""
        return self._processor.to_json_string()

    def save_pretrained(self, directory: str) -> None:
        """Writes `preprocessor_config.json`."""
        self._processor.save_pretrained(directory)


def plain_processor(shape: Sequence[int | None]) -> ImageProcessor:
    """Of a model that takes images of (channels, height, width) in [0, 1]; without a size nothing is resized."""
    channels, height, width = shape
    size = {} if height is None else {"size": {"height": height, "width": width}}
    processor = transformers.ViTImageProcessor(
        do_resize=bool(size), do_normalize=False, do_convert_rgb=channels == 3, **size
    )
    return ImageProcessor(processor, channels)


def load_processor(auto_class: Any, name: str, changes: Mapping[str, Any] | None = None) -> ImageProcessor | None:
    """The image processor of a checkpoint; None: it has none.

    Args:
      auto_class: As of `tff_tx.models.from_config`.
      name: Model directory or hub id.
      changes: Fields of the configuration that are changed; `image_size` and `num_channels` are the processor's too.

    Raises:
      UserError: If the checkpoint or its processor cannot be loaded.
    """
    changes, config = changes or {}, read_config(auto_class, name)
    path = described_at(name)
    if not os.path.exists(os.path.join(path, "preprocessor_config.json")):
        return None
    with loadable(f"the image processor of {setting('model.pretrained')}={name}"):
        processor = transformers.AutoImageProcessor.from_pretrained(path, use_fast=False)
        fields, channels = processor.to_dict(), changes.get("num_channels", config.num_channels)
        if "image_size" in changes:
            fields |= _sizes(fields, changes["image_size"])
        for field in ("image_mean", "image_std"):
            if isinstance(values := fields.get(field), (list, tuple)) and len(values) != channels:
                fields[field] = [float(np.mean(values))] * channels
        return ImageProcessor(type(processor).from_dict(fields), channels)


def _sizes(fields, image_size):
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    exact = {"height": height, "width": width}
    if "shortest_edge" not in fields.get("size", {}):
        return {"size": exact} | ({"crop_size": exact} if "crop_size" in fields else {})
    if height != width:
        raise UserError(
            f"{setting('model.config')} has image_size={image_size}, and the checkpoint's images are square: set one "
            "number."
        )
    return {"size": {"shortest_edge": height}} | ({"crop_size": exact} if "crop_size" in fields else {})


def _with_channels(pixels, channels):
    if len(pixels) == channels:
        return pixels
    if channels == 1:
        if not np.issubdtype(pixels.dtype, np.integer):
            pixels = np.rint(pixels * 255)
        picture = Image.fromarray(pixels[:3].transpose(1, 2, 0).astype(np.uint8))
        return np.asarray(picture.convert("L"))[np.newaxis]
    return np.repeat(pixels, channels, 0) if len(pixels) == 1 else pixels[:channels]
