"""Recordings: files of audio, encoded in any way that libsndfile reads (WAV, FLAC, OGG, MP3), as samples."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np

from tff_tx.config.task import LEAST_RATE, MOST_RATE
from tff_tx.core.errors import UserError, setting


class Recording(NamedTuple):
    """A recording of one channel.

    Attributes:
      samples: float32 [samples], within [-1, 1] where the file has integers.
      rate: Samples a second, Hz.
    """

    samples: np.ndarray
    rate: int

    def resampled(self, rate: int) -> np.ndarray:
        """The samples at another rate, by a polyphase filter that leaves out what the lower of both cannot hold."""
        if rate == self.rate:
            return self.samples
        from scipy import signal

        common = math.gcd(rate, self.rate)
        return signal.resample_poly(self.samples, rate // common, self.rate // common).astype(np.float32)


def as_recording(value: Any) -> Recording:
    """A recording of its encoded bytes, its path, or Hugging Face's {bytes, path} or {array, sampling_rate}.

    Channels are averaged.

    Raises:
      TypeError: If it is none of these.
      ValueError: If it cannot be decoded, has no sample, or one that is no finite number, or has no usual rate.
      OSError: If the file cannot be read.
    """
    if isinstance(value, Recording):
        return value
    if isinstance(value, dict) and value.get("array") is not None:
        return _checked(np.asarray(value["array"], np.float32), int(value["sampling_rate"]))
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, (bytes, str)):
        raise TypeError("no recording")
    import soundfile

    try:
        with open(value, "rb") if isinstance(value, str) else io.BytesIO(value) as file:
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(str(error)) from error
    return _checked(samples.mean(1), rate)


def read_recording(value: Any, where: str) -> Recording:
    """A recording as `as_recording` takes it.

    Args:
      value: Such as encoded bytes or a path.
      where: Its place, for messages.

    Raises:
      UserError: If there is none.
    """
    try:
        return as_recording(value)
    except (TypeError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{where}: {_shown(value)} is no recording that can be read ({error}): correct it, or choose another "
            f"{setting('data.audio_column')}."
        ) from error


def _shown(value) -> str:
    """A recording's path, as far as it has one, or what it is instead."""
    if isinstance(value, dict):
        value = value.get("path") or value.get("bytes")
    if isinstance(value, bytes):
        return f"a file of {len(value):,} bytes"
    return repr(value)[:200] if value is not None else "what has neither bytes nor a path"


def _checked(samples, rate):
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise ValueError("it has no samples, or some that are no finite numbers")
    if not LEAST_RATE <= rate <= MOST_RATE:  # what brings others to a usual rate would not fit into memory
        raise ValueError(
            f"it has {rate:,} samples a second, and at least {LEAST_RATE:,} and at most {MOST_RATE:,} can be read"
        )
    return Recording(samples, rate)
