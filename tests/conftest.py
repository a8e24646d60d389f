"""What all tests share: quiet libraries, no network, one cache of encoded data, a settled heap."""

import functools
import gc
import os
import signal

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As where a shell runs the tests in the background: TFF would wait for ever for workers that it interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import pytest

from tests import tiny  # noqa: F401
from tff_tx import runtime
from tff_tx.runtime import form

runtime.configure_tensorflow()


def pytest_collection_finish():
    """Keeps what was imported, millions of objects, from being looked through for garbage again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """A cache of encoded data for the whole session."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def digits_task(cache_dir):
    """Handwritten digits over 8 clients, a tiny ViT with dropout."""
    return tiny.digits_task(cache_dir)


@pytest.fixture(scope="module")
def compiled_once():
    """Compiles each process once for all engines of a module: a form does not change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(form.RoundForm, "of", functools.cache(form.RoundForm.of))
        yield


@pytest.fixture
def rng():
    """A seeded generator."""
    return np.random.default_rng(0)
