"""What all tests share: quiet libraries, no network, one cache of encoded data, a settled heap."""

import contextlib
import ctypes
import functools
import gc
import os
import signal

if gc.isenabled():
    gc.disable()  # while all is imported, see `pytest_collection_finish`
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As where a shell runs the tests in the background: TFF would wait for ever for workers that it interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Ray's workers have a lower priority by default: beside the other processes of a suite they would hardly run.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import psutil
import pytest

from tests import sharing, tiny  # noqa: F401
from tff_tx import runtime
from tff_tx.run import loop
from tff_tx.run.assemble import assembly, processes
from tff_tx.runtime import form
from tff_tx.runtime.internals.stacks import without_stacks

runtime.configure_tensorflow()

_SETTLED_BYTES = _settled_at = 1.5e9
"""Of a process with its libraries and what a session shares; and that after the last look for garbage."""


def _resident_bytes():
    return psutil.Process().memory_info().rss


def pytest_collection_finish():
    """Keeps what was imported, millions of objects, from being looked through for garbage again and again."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Lets go of what a file's tests share, models with their graphs, when its last one has run.

    A process of the slow suite had grown to 10 GB by its end. The allocator keeps what was freed until it is asked to
    give it back, which takes a while, as does looking for garbage: it is done where a file left half a gigabyte.
    """
    global _settled_at
    result = yield
    if nextitem is None or nextitem.path != item.path:
        for function in vars(item.module).values():
            if hasattr(function, "cache_clear") and function.__module__ == item.module.__name__:
                function.cache_clear()
        if _resident_bytes() > _settled_at + 0.5e9:
            gc.collect()
            if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's
                trim(0)
            _settled_at = max(_resident_bytes(), _SETTLED_BYTES)
    return result


@pytest.fixture(scope="session", autouse=True)
def heap_settled_once():
    """Runs leave the heap as it was settled after collection, which takes them longer here than their rounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_settled_heap", contextlib.nullcontext)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_stacks():
    """Operations have no Python stacks: under pytest, whose own are deep, they take a tenth of a graph's time."""
    with without_stacks():
        yield


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


@pytest.fixture(scope="module")
def made_once(compiled_once):
    """Makes each process once for all runs of a module that have model, data and settings in common."""
    name, made = assembly.attacks.named_process, {}

    def settings_of(config):
        rounds = {} if processes.is_scheduled(config) else {"run.rounds": 1}
        return repr(config.replace({"run.directory": "", **rounds}))

    def named(config, task, process, attack):
        if attack is not None:
            return name(config, task, process, attack)
        whose = settings_of(config), id(process), id(task.train)
        if whose not in made:
            made[whose] = name(config, task, process, attack), process, task.train
        return made[whose][0]

    with sharing.processes_by(settings_of), pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly.attacks, "named_process", named)
        yield


@pytest.fixture
def rng():
    """A seeded generator."""
    return np.random.default_rng(0)
