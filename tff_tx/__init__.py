"""Federated learning for Hugging Face Transformers on TensorFlow Federated."""

import importlib as _importlib
import os as _os
import warnings as _warnings

from tff_tx.core import platform_check as _platform_check

_platform_check.check()

# TensorFlow sets this itself, but after it has made its context where it is imported within absl's `app.run`, as by our
# programs: it then is not eager, and functions of ops such as CTC's loss, which register themselves eagerly, get lost.
_os.environ.setdefault("TF2_BEHAVIOR", "1")

__version__ = "0.1.0"

_OFFERED = {
    "run.parts": "Data Dirichlet Iid Shards PowerLaw ByColumn Model LoRA SGD Adam AdamW Adagrad Yogi Algorithm FedAvg "
    "FedProx FedGKD FedRep FedBABU FedRecon Ditto PFedMe APFL MRMTL FedDPA IFCA Scaffold FedDyn FedNova Reptile "
    "PerFedAvg FedExP FedEx DeltaSGD FedSGD MimeLite FedBuff FedDF stack clip zero compress aggregator mean DPFedAvg "
    "AdaptiveDPFedAvg DPFTRL BandMF LocalDP DPSGD Attack Devices Ray settings",
    "run.trainer": "Trainer Task load_task",
    "run.callbacks": "Callback",
    "config": "RunConfig",
    "core.errors": "UserError",
}
"""What `tff_tx` offers, by module; imported when it is first asked for, as TensorFlow takes seconds."""
_EXPORTS = {name: f"tff_tx.{module}" for module, names in _OFFERED.items() for name in names.split()}

__all__ = sorted([*_EXPORTS, "federation"])


def __getattr__(name):
    if name == "federation":
        return _importlib.import_module("tff_tx.federation")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'tff_tx' has no attribute {name!r}")
    # A dozen lines of notes would come before the first progress bar; runs say themselves which weights are new.
    _os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    _warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    value = globals()[name] = getattr(_importlib.import_module(_EXPORTS[name]), name)
    return value


def __dir__():
    return sorted(set(globals()) | set(__all__))
