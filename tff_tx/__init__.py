"""Federated learning for Hugging Face Transformers on TensorFlow Federated."""

import importlib as _importlib
import os as _os
import warnings as _warnings

from tff_tx.core import platform_check as _platform_check

_platform_check.check()

__version__ = "0.1.0"

_EXPORTS = {
    **{
        name: f"tff_tx.run.parts:{name}"
        for name in (
            *("Data", "Dirichlet", "Iid", "Shards", "PowerLaw", "ByColumn", "Model", "LoRA", "SGD", "Adam"),
            *("AdamW", "Adagrad", "Yogi", "Algorithm", "FedAvg", "FedProx", "FedGKD", "FedSGD", "MimeLite"),
            *("FedBuff", "FedDF", "stack", "clip", "zero", "compress", "aggregator", "mean", "DPFedAvg"),
            *("AdaptiveDPFedAvg", "DPFTRL", "BandMF", "LocalDP", "DPSGD", "Attack", "Devices", "Ray"),
            *("settings",),
        )
    },
    "Trainer": "tff_tx.run.trainer:Trainer",
    "Task": "tff_tx.run.trainer:Task",
    "load_task": "tff_tx.run.trainer:load_task",
    "Callback": "tff_tx.run.callbacks:Callback",
    "RunConfig": "tff_tx.config:RunConfig",
    "UserError": "tff_tx.core.errors:UserError",
}
"""What `tff_tx` offers, as "module:attribute"; imported when it is first asked for, as TensorFlow takes seconds."""

__all__ = sorted(_EXPORTS)


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'tff_tx' has no attribute {name!r}")
    # A dozen lines of TensorFlow's notes would come before the first progress bar.
    _os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    module, _, attribute = _EXPORTS[name].partition(":")
    value = globals()[name] = getattr(_importlib.import_module(module), attribute)
    return value


def __dir__():
    return sorted(set(globals()) | set(__all__))
