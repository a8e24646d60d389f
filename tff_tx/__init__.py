"""Federated learning for Hugging Face Transformers on TensorFlow Federated."""

from tff_tx.core import platform_check as _platform_check

_platform_check.require()

__version__ = "0.1.0"
