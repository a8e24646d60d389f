"""Federated learning for Hugging Face Transformers on TensorFlow Federated."""

import importlib as _importlib

from tff_tx.core import platform_check as _platform_check

_platform_check.require()
_importlib.import_module("tff_tx.core.quick_imports").install()

__version__ = "0.1.0"
